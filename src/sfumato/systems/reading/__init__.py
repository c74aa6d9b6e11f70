"""Pictures read: what is written in them."""
