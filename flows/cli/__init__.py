"""The ``retune`` command."""

from flows.cli.main import main

__all__ = ["main"]
