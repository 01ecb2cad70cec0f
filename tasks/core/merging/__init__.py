"""Whole models made of what was trained: one folder in Hugging Face layout that anything can serve."""
