"""The ``retune`` command. Nothing imports it."""
