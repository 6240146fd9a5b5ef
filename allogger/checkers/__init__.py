"""Checkers: which files does allogger itself look after? One module for each kind; the registry loads them by name."""
