"""Large pictures in squares: each is read with what lies around it, so no pixel can tell where one ended."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Tile:
    """A square of a picture, and how much around it is read; where there is nothing around it, less."""

    top: int
    left: int
    height: int
    width: int
    reach: int

    def read(self, picture: Float[Tensor, "*n h w"], factor: int = 1) -> Float[Tensor, "*n i j"]:
        """The square with what lies around it, of a picture with ``factor`` pixels a place."""
        above, before = max(0, self.top - self.reach), max(0, self.left - self.reach)
        below, after = self.top + self.height + self.reach, self.left + self.width + self.reach
        return picture[..., factor * above : factor * below, factor * before : factor * after]

    def write(
        self, answer: Float[Tensor, "*n i j"], picture: Float[Tensor, "*n h w"], factor: int = 1
    ) -> None:
        """Put the square's own part of an answer into a picture with ``factor`` pixels a place."""
        rows = slice(factor * self.top, factor * (self.top + self.height))
        columns = slice(factor * self.left, factor * (self.left + self.width))
        place = picture[..., rows, columns]
        above, before = min(self.top, self.reach), min(self.left, self.reach)
        inner = answer[..., factor * above :, factor * before :]
        place.copy_(inner[..., : place.shape[-2], : place.shape[-1]])


def tiles(height: int, width: int, side: int, reach: int) -> list[Tile]:
    """A picture as squares of ``side`` places, row by row, each read with ``reach`` places around it.

    >>> [(tile.top, tile.left, tile.height, tile.width) for tile in tiles(10, 15, 10, 4)]
    [(0, 0, 10, 10), (0, 10, 10, 5)]
    """
    return [
        Tile(top, left, min(side, height - top), min(side, width - left), reach)
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
