"""Readers: which files can be read back? One module for each kind of file; the registry loads them by name."""
