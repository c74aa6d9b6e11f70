"""Systems that make pictures of what a sentence says, by a game of two networks."""
