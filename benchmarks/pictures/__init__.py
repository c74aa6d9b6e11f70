"""The pictures of the systems' pages: ``python -m benchmarks.pictures`` draws them."""
