"""Holding: values that are held and posted in windows, and what else a training loop does where it begins and ends.

Which modules are there? `holder` is the front door, `buffer` has the memory, `windows` makes arrays of it, and `plots`
draws.
"""

from allogger.holding.holder import Actions, HoldingLogger
from allogger.holding.windows import Observed

__all__ = ["Actions", "HoldingLogger", "Observed"]
