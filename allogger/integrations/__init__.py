"""Integrations: how do the frameworks that train networks log here? A small module for each."""
