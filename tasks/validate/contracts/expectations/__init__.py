"""What a rule of a contract can check: Great Expectations' own expectations, and ours for language data."""
