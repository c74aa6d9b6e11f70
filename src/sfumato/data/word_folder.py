"""Your own pictures of words: a folder with a file gt.txt, or with a text file beside every picture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.frame import RATIO, framed
from sfumato.data.labelled import check_split
from sfumato.data.letters import characters_of
from sfumato.data.pictures import MAX_BAD, MEMORY, THREADS, Unreadable, fingerprint
from sfumato.data.scan import Entry, scan
from sfumato.errors import DataError, UsageError
from sfumato.images import PictureError, from_levels, measure, open_image, to_tensor

_SHOWN = 5


@dataclass(frozen=True)
class _Laid:
    """A picture in its frame."""

    levels: UInt8[Tensor, "1 h w"]
    extent: tuple[float, float]


class WordFolder:
    """Pictures of words and what is written in them, grey, in frames 3.125 times as wide as high.

    A batch has ``image``, ``text``, and ``extent``, the share of the frame's height and width that the
    picture takes in its middle. What is written stands in gt.txt (a.png, a tabulator, the word, a line each),
    in ``a.txt`` beside ``a.png``, or in metadata.jsonl.
    Raises ``DataError`` for pictures without a text, if more than the share ``max_bad`` of the headers is
    unreadable, and for a picture that turns out to be damaged when it is decoded.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 32,
        *,
        path: str | Path,
        max_bad: float = MAX_BAD,
        memory: int = MEMORY,
    ):
        check_split("folder", split)
        if size < 1:
            raise UsageError(f"Pictures have at least 1 pixel a side, not {size}; give another --size.")
        self.path, self._height, self._width = Path(path), size, round(size * RATIO)
        found = scan(self.path, split)
        bad = {entry.name: reason for entry in found.entries if (reason := _fault(entry))}
        self.unreadable = tuple(Unreadable(name, reason) for name, reason in sorted(bad.items()))
        if len(bad) > max_bad * len(found.entries):
            first = self.unreadable[0]
            raise DataError(
                f"{len(bad)} of {len(found.entries)} pictures in '{path}' cannot be read, more than the "
                f"{max_bad:.0%} allowed, such as '{first.file}' ({first.reason}); mend or remove them."
            )
        self._entries = [entry for entry in found.entries if entry.name not in bad]
        self._check_texts()
        fits = len(self._entries) * self._height * self._width <= memory
        self._kept: dict[int, _Laid] | None = {} if fits else None
        self.facts = Facts(
            name=self.path.resolve().name,
            channels=1,
            height=self._height,
            width=self._width,
            fields=frozenset({"image", "text", "extent"}),
            characters=characters_of(self._text(entry) for entry in self._entries),
            fingerprint=fingerprint(size, found.entries),
        )

    def __len__(self) -> int:
        return len(self._entries)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise IndexError(f"The folder holds examples 0 to {len(self) - 1}, got {indices.tolist()}.")
        with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
            laid = list(pool.map(self._laid, indices.tolist()))
        levels = torch.stack([one.levels for one in laid])
        return {
            "image": from_levels(levels),
            "text": [self._text(self._entries[i]) for i in indices.tolist()],
            "extent": torch.tensor([one.extent for one in laid]),
        }

    def _laid(self, index: int) -> _Laid:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        entry = self._entries[index]
        try:
            image = open_image(entry.path)
        except PictureError as error:
            raise DataError(f"'{entry.path}' is damaged ({error.reason}); mend or remove it.") from error
        frame = framed(to_tensor(image, 1)[None], self._height, self._width)
        levels = ((frame.pixels[0] + 1) * 127.5).round().to(torch.uint8)
        one = _Laid(levels, (float(frame.extent[0]), float(frame.extent[1])))
        if self._kept is not None:
            self._kept[index] = one
        return one

    def _text(self, entry: Entry) -> str:
        return entry.caption or ""

    def _check_texts(self) -> None:
        bare = [entry.name for entry in self._entries if not entry.caption]
        if not bare:
            return
        shown = ", ".join(f"'{name}'" for name in bare[:_SHOWN])
        beside = Path(bare[0]).with_suffix(".txt").name
        raise DataError(
            f"To learn to read, every picture needs its text, but {len(bare)} of {len(self)} in "
            f"'{self.path}' have none, such as {shown}; write it into a file gt.txt ({bare[0]}, a tabulator, "
            f"the text), or into a file beside the picture ('{beside}')."
        )


def _fault(entry: Entry) -> str | None:
    """Why a picture cannot be read, as far as its header tells."""
    try:
        measure(entry.path)
    except PictureError as error:
        return error.reason
    return None
