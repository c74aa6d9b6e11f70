"""Your own pictures: a folder of JPEG, PNG or WebP files, with captions or classes if you like."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.labelled import check_split
from sfumato.data.scan import Entry, scan
from sfumato.data.text import vocabulary_of
from sfumato.errors import DataError, UsageError
from sfumato.images import PictureError, fit, from_levels, measure, open_image, to_levels

MEMORY = 2**30
"""Bytes of decoded pictures we keep; larger folders are decoded again at every use."""
MAX_BAD = 0.1
THREADS = 4
_SHOWN = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unreadable:
    """A picture that was skipped."""

    file: str
    reason: str


class Folder:
    """The pictures of a folder, scaled and centre-cropped to squares.

    Captions come from ``a.txt`` beside ``a.jpg`` or from ``metadata.jsonl``, labels from class subfolders;
    both may exist. A batch has ``caption`` if every picture has one. Unreadable pictures are skipped and
    remembered in ``unreadable``; one found only when it is decoded is replaced, always by the next readable.
    Raises ``DataError`` for a folder without pictures, and if more than the share ``max_bad`` is unreadable.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        *,
        path: str | Path,
        max_bad: float = MAX_BAD,
        memory: int = MEMORY,
    ):
        check_split("folder", split)
        if size < 1:
            raise UsageError(f"Pictures have at least 1 pixel a side, not {size}; give another --size.")
        self.path, self._size, self._max_bad = Path(path), size, max_bad
        found = scan(self.path, split)
        self._found, self._lock = len(found.entries), threading.Lock()
        self._bad: dict[str, str] = {}
        self._entries = [entry for entry in found.entries if self._promising(entry)]
        self._check_bad()
        shape = (len(self._entries), 3, size, size)
        fits = len(self._entries) * 3 * size * size <= memory
        self._kept = torch.empty(shape, dtype=torch.uint8) if fits else None
        self._place = torch.full((len(self._entries),), -1)
        """Position of the entry that answers for each index, once kept."""
        self.facts = self._facts(found.classes, found.entries)

    def _facts(self, classes: tuple[str, ...], entries: Sequence[Entry]) -> Facts:
        captions = [entry.caption for entry in self._entries if entry.caption is not None]
        captioned = len(captions) == len(self._entries)
        fields = {"image"} | ({"caption"} if captioned else set()) | ({"label"} if classes else set())
        return Facts(
            name=self.path.resolve().name,
            channels=3,
            height=self._size,
            width=self._size,
            fields=frozenset(fields),
            classes=classes,
            words=vocabulary_of(captions) if captioned else (),
            fingerprint=fingerprint(self._size, entries),
        )

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def unreadable(self) -> tuple[Unreadable, ...]:
        """What has been skipped so far, by name."""
        with self._lock:
            return tuple(Unreadable(name, reason) for name, reason in sorted(self._bad.items()))

    def require(self, needs: frozenset[str]) -> None:
        """Raise ``DataError`` if a field is missing, with the way to give it."""
        for field in sorted(needs - self.facts.fields):
            raise DataError(self._lacking(field))

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise IndexError(f"The folder holds examples 0 to {len(self) - 1}, got {indices.tolist()}.")
        places = self._place[indices]
        if self._kept is not None and bool((places >= 0).all()):
            levels = self._kept[places]
        else:
            with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
                examples = list(pool.map(self._example, indices.tolist()))
            places = torch.tensor([place for place, _ in examples], dtype=torch.long)
            levels = torch.stack([levels for _, levels in examples])
        entries = [self._entries[place] for place in places.tolist()]
        batch: dict[str, Any] = {"image": from_levels(levels)}
        if "caption" in self.facts.fields:
            batch["caption"] = [entry.caption for entry in entries]
        if "label" in self.facts.fields:
            batch["label"] = torch.tensor([entry.label for entry in entries], dtype=torch.long)
        return batch

    def _example(self, index: int) -> tuple[int, UInt8[Tensor, "3 h w"]]:
        """The picture at ``index``, or else the next that can be read, and its position."""
        for step in range(len(self)):
            place = (index + step) % len(self)
            if (levels := self._levels(place)) is not None:
                if self._kept is not None:
                    self._kept[place] = levels
                    self._place[place] = self._place[index] = place
                return place, levels
        raise DataError(f"No picture in '{self.path}' can be read; give another folder.")

    def _levels(self, place: int) -> UInt8[Tensor, "3 h w"] | None:
        if self._kept is not None and int(self._place[place]) == place:
            return self._kept[place]
        entry = self._entries[place]
        if entry.name in self._bad:
            return None
        try:
            image = open_image(entry.path, at_least=(self._size, self._size))
        except PictureError as error:
            self._skip(entry, error.reason)
            self._check_bad()
            return None
        return to_levels(fit(image, self._size, self._size))

    def _promising(self, entry: Entry) -> bool:
        """Look at the header only: cheap, and finds most that is broken."""
        try:
            measure(entry.path)
        except PictureError as error:
            self._skip(entry, error.reason)
            return False
        return True

    def _skip(self, entry: Entry, reason: str) -> None:
        with self._lock:
            new = entry.name not in self._bad
            self._bad[entry.name] = reason
        if new:
            _log.warning("skipped '%s': %s", entry.path, reason)

    def _check_bad(self) -> None:
        bad = self.unreadable
        if len(bad) <= self._max_bad * self._found:
            return
        shown = ", ".join(f"'{item.file}' ({item.reason})" for item in bad[:_SHOWN])
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise DataError(
            f"{len(bad)} of {self._found} pictures in '{self.path}' cannot be read, more than the "
            f"{self._max_bad:.0%} allowed: {shown}{more}; mend or remove them "
            f"(`sfumato data {self.path}` lists all), or train with a larger --max-bad."
        )

    def _lacking(self, field: str) -> str:
        if field == "caption":
            bare = [entry.name for entry in self._entries if entry.caption is None]
            shown = ", ".join(f"'{name}'" for name in bare[:_SHOWN])
            beside = Path(bare[0]).with_suffix(".txt").name
            return (
                f"Every picture needs a caption, but {len(bare)} of {len(self)} in '{self.path}' have none, "
                f"such as {shown}; write it into a text file beside the picture ('{beside}') "
                "or into metadata.jsonl: "
                f'{{"file_name": "{Path(bare[0]).name}", "text": "what it shows"}}.'
            )
        if field == "label":
            return (
                f"Every picture needs a class, but '{self.path}' has no class subfolders; "
                "sort all its pictures into two or more subfolders named after their classes."
            )
        fields = ", ".join(sorted(self.facts.fields))
        return f"The folder '{self.path}' has {fields}, but no {field}; choose other data."


def fingerprint(size: int, entries: Sequence[Entry]) -> str:
    """Hash names, sizes, times of change, captions and labels."""
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    for entry in entries:
        facts = (entry.name, entry.bytes, entry.changed, entry.caption, entry.label)
        digest.update(repr(facts).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
