"""What must not reach a model: personal data, secrets, control tokens, and text of a licence that is not allowed."""

from tasks.collect.hygiene.cleaner import Cleaner, check_licence

__all__ = ["Cleaner", "check_licence"]
