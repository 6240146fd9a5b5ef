"""Exporters: to which formats can runs be exported? One module for each; the registry loads them by name."""
