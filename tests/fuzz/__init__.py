"""Fuzz: what do the readers do with files that have been changed at random? ``python -m tests.fuzz --help``."""
