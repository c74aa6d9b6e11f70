"""Numbered pictures that are decoded when they are asked for: what folders and shards have in common."""

from __future__ import annotations

import abc
import hashlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.text import vocabulary_of
from sfumato.errors import DataError, UsageError
from sfumato.images import File, PictureError, fit, from_levels, open_image, to_levels

MEMORY = 2**30
"""Bytes of decoded pictures we keep; larger collections are decoded again at every use."""
MAX_BAD = 0.1
THREADS = 4
_SHOWN = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unreadable:
    """A picture that was skipped."""

    file: str
    reason: str


@runtime_checkable
class Listed(Protocol):
    """A picture as a collection knows it before it is decoded."""

    @property
    def name(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def changed(self) -> int: ...
    @property
    def caption(self) -> str | None: ...
    @property
    def label(self) -> int | None: ...

    def file(self) -> File:
        """What to decode."""
        ...


class Pictures(abc.ABC):
    """Pictures in a fixed order, scaled and centre-cropped to squares.

    A batch has ``caption`` if every picture has one, and ``label`` if there are classes. Unreadable pictures
    are skipped and remembered in ``unreadable``; one found only when it is decoded is replaced, always by the
    next readable. Raises ``DataError`` if more than the share ``max_bad`` is unreadable.
    """

    def __init__(
        self,
        path: Path,
        size: int,
        entries: Sequence[Listed],
        classes: tuple[str, ...] = (),
        *,
        max_bad: float,
        memory: int,
    ):
        if size < 1:
            raise UsageError(f"Pictures have at least 1 pixel a side, not {size}; give another --size.")
        self.path, self._size, self._max_bad = path, size, max_bad
        self._found, self._lock = len(entries), threading.Lock()
        self._bad: dict[str, str] = {}
        self._entries = [entry for entry in entries if self._promising(entry)]
        self._check_bad()
        shape = (len(self._entries), 3, size, size)
        fits = len(self._entries) * 3 * size * size <= memory
        self._kept = torch.empty(shape, dtype=torch.uint8) if fits else None
        self._place = torch.full((len(self._entries),), -1)
        """Position of the entry that answers for each index, once kept."""
        self.facts = self._facts(classes, entries)

    @abc.abstractmethod
    def _promising(self, entry: Listed) -> bool:
        """Whether a picture may be readable; if not, it has been skipped."""

    @abc.abstractmethod
    def _lacking(self, field: str) -> str:
        """What is missing for a field, and how to give it."""

    def _facts(self, classes: tuple[str, ...], entries: Sequence[Listed]) -> Facts:
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
            raise IndexError(f"There are examples 0 to {len(self) - 1}, got {indices.tolist()}.")
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
        raise DataError(f"No picture in '{self.path}' can be read; give other data.")

    def _levels(self, place: int) -> UInt8[Tensor, "3 h w"] | None:
        if self._kept is not None and int(self._place[place]) == place:
            return self._kept[place]
        image = self._opened(place, self._size)
        return None if image is None else to_levels(fit(image, self._size, self._size))

    def _opened(self, place: int, at_least: int) -> Image.Image | None:
        """A picture, with sides of ``at_least`` pixels where it has them; skipped if it cannot be read."""
        entry = self._entries[place]
        if entry.name in self._bad:
            return None
        try:
            return open_image(entry.file(), at_least=(at_least, at_least))
        except PictureError as error:
            self._skip(entry, error.reason)
            self._check_bad()
            return None

    def _skip(self, entry: Listed, reason: str) -> None:
        with self._lock:
            new = entry.name not in self._bad
            self._bad[entry.name] = reason
        if new:
            _log.warning("skipped '%s': %s", self.path / entry.name, reason)

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


def fingerprint(size: int, entries: Sequence[Listed]) -> str:
    """Hash names, sizes, times of change, captions and labels."""
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    for entry in entries:
        facts = (entry.name, entry.bytes, entry.changed, entry.caption, entry.label)
        digest.update(repr(facts).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
