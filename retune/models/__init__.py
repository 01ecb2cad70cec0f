"""Public models for recipes."""
