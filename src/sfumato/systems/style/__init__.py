"""Style transfer: pictures painted anew by what a network sees in them."""
