"""The commands ``retune contracts``."""
