"""What a user lays beside a model for one run, and nothing of which is written back into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Additions:
    """Small files and other ways of use; a system that knows them takes them (``System.take``)."""

    loras: tuple[tuple[Path, float], ...] = ()
    """Files of low-rank updates, and how strongly each counts."""
    embeddings: tuple[tuple[Path, str], ...] = ()
    """Files of textual inversion, and what to call the word of each; empty is what the file says."""
    tile: bool = False
    """Whether pictures are to go on at the opposite edge."""
    refiner: Any = None
    """A system that denoises the end of the way."""
    refine_at: float = 0.8
    """The share of the way after which it does."""
