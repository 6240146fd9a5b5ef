"""Trainer: how does a training loop log all it has, with one call per iteration and one per epoch?"""

from allogger.trainer.logger import TrainerLogger
from allogger.trainer.memory import MemoryLogger

__all__ = ["MemoryLogger", "TrainerLogger"]
