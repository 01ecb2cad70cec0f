"""Hygiene: personal data, secrets, control tokens and licences that must not reach a model."""

from tasks.collect.hygiene.cleaner import Cleaner, check_licence

__all__ = ["Cleaner", "check_licence"]
