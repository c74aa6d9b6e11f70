"""What systems learn from; no networks here."""
