"""Letters, digits and invented characters, written by a pen with a style, or read from font files."""
