"""Systems that squeeze a picture through a bottleneck and rebuild it."""
