"""kinds: the kinds of values that allogger knows; the registry loads them by name."""
