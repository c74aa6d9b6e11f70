"""Tests of the core and the small systems they train."""
