"""Kinds: which kinds of values does allogger have of its own? One module for each; the registry loads them by name."""
