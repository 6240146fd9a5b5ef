"""Tracker: how does one call, ``log(item, identifier, kind)``, log everything that a training has to say?"""

from allogger.tracker.collection import TrackerCollection
from allogger.tracker.front import Tracker

__all__ = ["Tracker", "TrackerCollection"]
