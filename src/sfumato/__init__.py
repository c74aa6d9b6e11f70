"""Every generative system of five lectures, in one library."""

__version__ = "0.1.0"
