"""Conversions: what do the values of a series look like in other libraries? One module for each library."""
