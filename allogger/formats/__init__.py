"""Formats: how do bytes lie on disk? Both directions, without threads and settings."""
