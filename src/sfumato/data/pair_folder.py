"""Your own pictures of two kinds: pairs side by side or by name, or two folders that are no pairs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.folder import Folder
from sfumato.data.labelled import check_split
from sfumato.data.pictures import MAX_BAD, MEMORY, THREADS, Unreadable, fingerprint
from sfumato.data.scan import PARTS, Entry, scan
from sfumato.errors import DataError, UsageError
from sfumato.images import fit, from_levels, measure, open_image, to_levels

SIDES = ("A", "B")
TWICE = (1.8, 2.2)
"""How many times as wide as high a picture is that holds two, side by side."""
_SHOWN = 5
_LAYOUTS = "put them into two subfolders A and B under equal names, or side by side into one picture each"


class PairFolder:
    """Pairs of ``source`` and ``image``, each scaled and centre-cropped alike to a square.

    Either two subfolders hold them under equal names (``A`` and ``B``, or ``trainA``, ``trainB``, ``testA``
    and ``testB``), or every picture holds two side by side, the source on the left.
    Raises ``DataError`` for a picture without a partner or whose partner has another size, and for one that
    cannot be read.
    """

    def __init__(
        self, split: str = "train", size: int = 64, *, path: str | Path, memory: int = MEMORY
    ) -> None:
        check_split("folder", split)
        if size < 1:
            raise UsageError(f"Pictures have at least 1 pixel a side, not {size}; give another --size.")
        self.path, self._size = Path(path), size
        roots = sides(self.path, split)
        if roots is None:
            entries = scan(self.path, split).entries
            _check_halves(entries)
            self._pairs: list[tuple[Entry, Entry | None]] = [(entry, None) for entry in entries]
        else:
            self._pairs = [*_matched(*roots, split)]
            entries = tuple(entry for pair in self._pairs for entry in pair if entry is not None)
        shape = (len(self._pairs), 2, 3, size, size)
        fits = len(self._pairs) * 2 * 3 * size * size <= memory
        self._kept = torch.empty(shape, dtype=torch.uint8) if fits else None
        self._there = torch.zeros(len(self._pairs), dtype=torch.bool)
        self.facts = Facts(
            name=self.path.resolve().name,
            channels=3,
            height=size,
            width=size,
            fields=frozenset({"source", "image"}),
            fingerprint=fingerprint(size, entries),
            domains=SIDES,
        )

    def __len__(self) -> int:
        return len(self._pairs)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise IndexError(f"The folder holds pairs 0 to {len(self) - 1}, got {indices.tolist()}.")
        if self._kept is not None and bool(self._there[indices].all()):
            levels = self._kept[indices]
        else:
            with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
                levels = torch.stack(list(pool.map(self._pair, indices.tolist())))
        return {"source": from_levels(levels[:, 0]), "image": from_levels(levels[:, 1])}

    def _pair(self, index: int) -> UInt8[Tensor, "2 3 h w"]:
        if self._kept is not None and bool(self._there[index]):
            return self._kept[index]
        one, other = self._pairs[index]
        if other is None:
            halves = _halves(open_image(one.path, at_least=(self._size, 2 * self._size)))
        else:
            at_least = (self._size, self._size)
            halves = (open_image(one.path, at_least=at_least), open_image(other.path, at_least=at_least))
        levels = torch.stack([to_levels(fit(half, self._size, self._size)) for half in halves])
        if self._kept is not None:
            self._kept[index] = levels
            self._there[index] = True
        return levels


class DomainFolder:
    """Fields ``a`` and ``b`` from two subfolders whose pictures have nothing to do with each other.

    They are called ``A`` and ``B``, or ``trainA``, ``trainB``, ``testA`` ...; the smaller one is gone through
    again and again.
    """

    def __init__(
        self, split: str = "train", size: int = 64, *, path: str | Path, max_bad: float = MAX_BAD
    ) -> None:
        check_split("folder", split)
        self.path = Path(path)
        roots = sides(self.path, split)
        if roots is None:
            raise DataError(
                f"'{path}' has no subfolders A and B; put pictures of one kind into A, of the other into B."
            )
        self._sides = tuple(Folder(split, size, path=root, max_bad=max_bad) for root in roots)
        facts = [side.facts for side in self._sides]
        self.facts = replace(
            facts[0],
            name=self.path.resolve().name,
            fields=frozenset({"a", "b"}),
            classes=(),
            words=(),
            fingerprint="-".join(one.fingerprint for one in facts),
            domains=SIDES,
        )

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """What has been skipped so far, by name."""
        return tuple(
            replace(item, file=f"{side.path.name}/{item.file}")
            for side in self._sides
            for item in side.unreadable
        )

    def __len__(self) -> int:
        return max(len(side) for side in self._sides)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        a, b = (side.batch(indices % len(side))["image"] for side in self._sides)
        return {"a": a, "b": b}


def sides(folder: Path, split: str) -> tuple[Path, Path] | None:
    """Where the pictures of both kinds lie, if they lie apart: ``trainA``, ``train/A`` or ``A``."""
    if not folder.is_dir():
        raise DataError(f"There is no folder '{folder}'; give the path of a folder that holds pictures.")
    for part in PARTS[split]:
        for found in ([folder / f"{part}{side}" for side in SIDES], [folder / part / side for side in SIDES]):
            if all(path.is_dir() for path in found):
                return found[0], found[1]
    if any((folder / f"train{side}").is_dir() for side in SIDES):
        raise DataError(
            f"'{folder}' lacks {split}A or {split}B and so has nothing for '{split}'; add what is missing."
        )
    found = [folder / side for side in SIDES]
    return (found[0], found[1]) if all(path.is_dir() for path in found) else None


def _matched(first: Path, second: Path, split: str) -> Sequence[tuple[Entry, Entry]]:
    """The pairs of pictures with equal names but for the ending, which have equal sizes."""
    a, b = (_by_stem(root, split) for root in (first, second))
    if alone := sorted(a.keys() ^ b.keys()):
        shown = ", ".join(
            f"'{stem}' (only in {(first if stem in a else second).name})" for stem in alone[:_SHOWN]
        )
        raise DataError(
            f"{len(alone)} pictures in '{first.parent}' have no partner: {shown}; "
            "pairs need equal names in both folders, so rename or remove these."
        )
    pairs = [(a[stem], b[stem]) for stem in sorted(a)]
    for one, other in pairs:
        (_, *size), (_, *other_size) = measure(one.path), measure(other.path)
        if size != other_size:
            raise DataError(
                f"'{one.path}' is {size[1]} x {size[0]} pixels (width, height), its partner "
                f"{other_size[1]} x {other_size[0]}; pairs need equal sizes, so scale one of them."
            )
    return pairs


def _by_stem(root: Path, split: str) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in scan(root, split).entries:
        stem = entry.name[: entry.name.rindex(".")]
        if stem in found:
            raise DataError(
                f"'{root}' holds '{found[stem].name}' and '{entry.name}', which both could be the partner; "
                "keep one of them."
            )
        found[stem] = entry
    return found


def _check_halves(entries: Sequence[Entry]) -> None:
    for entry in entries:
        _, height, width = measure(entry.path)
        if not TWICE[0] * height <= width <= TWICE[1] * height:
            raise DataError(
                f"'{entry.path}' is {width} x {height} pixels (width, height), not two squares side by side, "
                f"so it is no pair; {_LAYOUTS}."
            )


def _halves(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    middle = image.width // 2
    left = image.crop((0, 0, middle, image.height))
    return left, image.crop((image.width - middle, 0, image.width, image.height))
