"""Generators that learn by deceiving a critic."""
