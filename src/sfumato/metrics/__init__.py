"""How good the pictures are, with n, feature space and spread."""
