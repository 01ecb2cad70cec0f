"""What the commands `retune contracts` do."""
