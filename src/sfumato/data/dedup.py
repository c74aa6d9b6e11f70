"""Finding what is there twice: addresses by a Bloom filter, pictures by a hash of how they look."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np
from PIL import Image

from sfumato.errors import UsageError

SIDE = 32
"""Pixels of the grey picture whose cosine transform is hashed."""
BITS = 64
BANDS = 4
"""Pieces of 16 bits in which hashes are looked up."""
RADIUS = 10
"""Bits in which the hashes of two copies of a picture may differ; so at most two in the nearest piece."""
LOOK = 8
"""Pixels of the small colour picture by which a suspicion is confirmed."""
TOLERANCE = 6.0
"""Grey levels by which the small colour pictures of two copies may differ where they differ most.

Where they differ most, because a picture of which one corner has changed is another picture.
"""
ASPECT = 0.05
"""By how much width to height of two copies may differ, as a natural logarithm."""


class Bloom:
    """A set of texts that may believe to hold one it does not, and never forgets one it holds.

    Bloom 1970, grown as in Almeida et al. 2007: whenever a slice is full, one of twice the room and half the
    error joins, so that the share of new texts taken for old ones stays below ``error`` without knowing how
    many there will be. Each text costs about 1.44 log2(2 / error) bits.

    >>> seen = Bloom()
    >>> seen.add("http://a.org/1.jpg"), seen.add("http://a.org/2.jpg"), seen.add("http://a.org/1.jpg")
    (True, True, False)
    """

    def __init__(self, error: float = 1e-5, room: int = 100_000):
        if not 0 < error < 1 or room < 1:
            raise UsageError(f"A Bloom filter needs 0 < error < 1 and room >= 1, got {error} and {room}.")
        self._slices = [_Slice(room, error / 2)]

    def add(self, text: str) -> bool:
        """Put a text in; whether it was new."""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        first, second = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little") | 1
        if any(part.holds(first, second) for part in self._slices):
            return False
        last = self._slices[-1]
        if last.count == last.room:
            last = _Slice(2 * last.room, last.error / 2)
            self._slices.append(last)
        last.put(first, second)
        return True

    @property
    def bytes(self) -> int:
        """Memory of all its bits."""
        return sum(len(part.bits) for part in self._slices)


class _Slice:
    """One filter of a fixed size; places follow from two hashes (Kirsch & Mitzenmacher 2006)."""

    def __init__(self, room: int, error: float):
        self.room, self.error, self.count = room, error, 0
        self.hashes = max(1, math.ceil(-math.log2(error)))
        self.bits = bytearray(math.ceil(room * self.hashes / math.log(2) / 8))

    def places(self, first: int, second: int) -> Iterator[tuple[int, int]]:
        for i in range(self.hashes):
            place = (first + i * second) % (8 * len(self.bits))
            yield place >> 3, 1 << (place & 7)

    def holds(self, first: int, second: int) -> bool:
        return all(self.bits[byte] & bit for byte, bit in self.places(first, second))

    def put(self, first: int, second: int) -> None:
        for byte, bit in self.places(first, second):
            self.bits[byte] |= bit
        self.count += 1


class Look(NamedTuple):
    """How a picture looks, in 200 bytes."""

    hash: int
    """64 bits: which of the 64 slowest waves of its cosine transform are stronger than their median."""
    colours: bytes
    """``LOOK`` x ``LOOK`` x 3 grey levels."""
    aspect: float
    """Natural logarithm of width to height."""


def look(image: Image.Image, size: tuple[int, int] | None = None) -> Look:
    """How a picture looks; copies of other sizes and qualities look nearly alike (Zauner 2010).

    ``size`` (width, height) tells the true size of one that was decoded smaller.
    """
    width, height = size or image.size
    grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    waves = _cosines() @ np.asarray(grey, dtype=np.float64) @ _cosines().T
    slow = waves[_slowest()]
    bits = slow > np.median(slow)
    small = image.convert("RGB").resize((LOOK, LOOK), Image.Resampling.BOX)
    return Look(int(np.packbits(bits).tobytes().hex(), 16), small.tobytes(), math.log(width / height))


@functools.cache
def _cosines() -> np.ndarray:
    """The orthonormal cosine transform of ``SIDE`` numbers (type II) as a matrix."""
    k, n = np.arange(SIDE)[:, None], np.arange(SIDE)[None]
    matrix = np.sqrt(2 / SIDE) * np.cos(np.pi * k * (2 * n + 1) / (2 * SIDE))
    matrix[0] /= np.sqrt(2)
    return matrix


@functools.cache
def _slowest() -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the 64 slowest waves along diagonals, without the mean."""
    every = sorted((i + j, i, j) for i in range(SIDE) for j in range(SIDE))[1 : BITS + 1]
    return np.array([i for _, i, _ in every]), np.array([j for _, _, j in every])


class Looks:
    """Pictures found so far, asked for one that looks like another.

    Hashes are cut into ``BANDS`` pieces. If two differ in at most ``RADIUS`` bits, then in at most
    ``RADIUS // BANDS`` in one of the pieces: looking up every piece with all so small changes finds every
    such pair (multi-index hashing, Norouzi, Punjani & Fleet 2012). What is found must then agree in colours
    and shape, since plain pictures have similar waves.
    """

    def __init__(self, radius: int = RADIUS, tolerance: float = TOLERANCE):
        if not 0 <= radius < BITS:
            raise UsageError(f"Hashes differ in 0 to {BITS - 1} bits, not {radius}; the usual radius is 10.")
        self.radius, self.tolerance = radius, tolerance
        self._hashes: list[int] = []
        self._aspects: list[float] = []
        self._colours = np.empty((1024, LOOK * LOOK * 3), dtype=np.uint8)
        self._pieces: list[dict[int, list[int]]] = [{} for _ in range(BANDS)]
        self._masks = _masks(radius // BANDS)

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, wanted: Look) -> int | None:
        """The number of the first picture that looks like this one, in the order in which they came."""
        near = [
            number
            for number in sorted(self._candidates(wanted.hash))
            if (self._hashes[number] ^ wanted.hash).bit_count() <= self.radius
            and abs(self._aspects[number] - wanted.aspect) <= ASPECT
        ]
        if not near:
            return None
        mine = np.frombuffer(wanted.colours, dtype=np.uint8).astype(np.float64)
        apart = np.abs(self._colours[near] - mine).reshape(len(near), -1, 3).mean(2).max(1)
        alike = np.flatnonzero(apart <= self.tolerance)
        return near[int(alike[0])] if len(alike) else None

    def add(self, new: Look) -> int:
        """Remember a picture; its number."""
        number = len(self)
        if number == len(self._colours):
            self._colours = np.concatenate([self._colours, np.empty_like(self._colours)])
        self._colours[number] = np.frombuffer(new.colours, dtype=np.uint8)
        self._hashes.append(new.hash)
        self._aspects.append(new.aspect)
        for table, piece in zip(self._pieces, _cut(new.hash), strict=True):
            table.setdefault(piece, []).append(number)
        return number

    def _candidates(self, hashed: int) -> set[int]:
        found: set[int] = set()
        for table, piece in zip(self._pieces, _cut(hashed), strict=True):
            for mask in self._masks:
                found.update(table.get(piece ^ mask, ()))
        return found


def _cut(hashed: int) -> list[int]:
    wide = BITS // BANDS
    return [(hashed >> (wide * k)) & ((1 << wide) - 1) for k in range(BANDS)]


def _masks(most: int) -> list[int]:
    """All changes of at most so many bits of a piece."""
    bits = [1 << k for k in range(BITS // BANDS)]
    return [sum(chosen) for count in range(most + 1) for chosen in combinations(bits, count)]
