"""Writes the result of a training as a whole model in Hugging Face layout, which any server can load."""
