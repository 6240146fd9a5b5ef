"""Mixin: what has each object in a tree of objects logged, and how does all of it leave through one logger?

An object registers what it will log, and lists its children; whoever holds the head of the tree reads all of it. Which
objects are in a tree is found out when it is read, so it may be changed at any time, and an object may be reached in
several ways.
"""

from __future__ import annotations

from allogger.mixin.node import LoggingMixin
from allogger.mixin.values import Count, Latest, LatestArray, LoggedValue, Max, Mean, Min, Std, Sum

__all__ = [
    "Count",
    "Latest",
    "LatestArray",
    "LoggedValue",
    "LoggingMixin",
    "Max",
    "Mean",
    "Min",
    "Std",
    "Sum",
]
