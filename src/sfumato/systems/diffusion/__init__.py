"""Systems that walk from noise to data."""
