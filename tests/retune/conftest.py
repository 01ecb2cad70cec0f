"""The recipe and the night that the tests of flows use."""

from tests.flows.conftest import last_night, write_recipe

__all__ = ["last_night", "write_recipe"]
