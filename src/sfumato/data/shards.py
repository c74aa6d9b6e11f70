"""Pictures and texts in numbered tar files, as WebDataset, img2dataset and ``sfumato curate`` write them.

A sample is what lies under one key: ``000017.jpg``, ``000017.txt``, ``000017.json``. Members are read where
they stand in the tar; nothing is unpacked, so no name in it ever becomes a path.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sfumato.data.labelled import check_split
from sfumato.data.pictures import MAX_BAD, MEMORY, Listed, Pictures
from sfumato.data.scan import SUFFIXES
from sfumato.data.tarred import members
from sfumato.errors import DataError

SUFFIX = ".tar"
HELD_OUT = 50
"""Of so many samples one is for testing, chosen by its key."""
_TEXT, _LABEL = "txt", "cls"
_MOST_TEXT = 2**20


@dataclass(frozen=True)
class Sample:
    """What is written under one key; the picture is a JPEG file."""

    key: str
    picture: bytes
    text: str
    facts: Mapping[str, Any]

    def members(self) -> Iterator[tuple[str, bytes]]:
        yield f"{self.key}.jpg", self.picture
        yield f"{self.key}.txt", self.text.encode("utf-8", "replace")
        yield f"{self.key}.json", json.dumps(self.facts, sort_keys=True).encode()


def write_samples(file: IO[bytes], samples: Sequence[Sample] | Iterator[Sample]) -> int:
    """Write samples as one tar; the same samples give the same bytes. How many there were."""
    count = 0
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for name, data in sample.members():
                member = tarfile.TarInfo(name)  # no owner, no time
                member.size, member.mode = len(data), 0o644
                tar.addfile(member, io.BytesIO(data))
            count += 1
    return count


class _Member(io.BytesIO):
    """A file within a tar, with a name for messages."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = name


@dataclass(frozen=True)
class Stored:
    """A picture where it stands in its shard."""

    name: str
    """Shard and key: ``000000/0017ab``."""
    shard: Path
    start: int
    bytes: int
    changed: int
    caption: str | None
    label: int | None

    def file(self) -> io.BytesIO:
        """What to decode."""
        with self.shard.open("rb") as file:
            return _Member(os.pread(file.fileno(), self.bytes, self.start), f"{self.shard}:{self.name}")


def is_shards(folder: Path) -> bool:
    """Whether a folder holds tar files."""
    return folder.is_dir() and any(folder.glob(f"*{SUFFIX}"))


class Shards(Pictures):
    """The samples of a folder of tar files, in the order of files and of members, scaled to squares.

    One sample in ``HELD_OUT`` is for testing, chosen by its key alone; ``sfumato curate`` removes duplicates
    before, so that none stands on both sides. ``label`` comes from members ``key.cls`` if they are numbers.
    Raises ``DataError`` for a folder without shards and for a shard that is cut off.
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
        check_split("shards", split)
        shards = sorted(Path(path).glob(f"*{SUFFIX}"))
        if not shards:
            raise DataError(
                f"'{path}' holds no shards (*{SUFFIX}); give a folder that `sfumato curate` made."
            )
        every = [entry for shard in shards for entry in read_index(shard)]
        entries = [entry for entry in every if held_out(entry.name) == (split == "test")]
        if not entries:
            raise DataError(
                f"None of the {len(every)} samples in '{path}' is for '{split}'; "
                f"one in {HELD_OUT} is for testing, so give more."
            )
        labels = sorted({entry.label for entry in every if entry.label is not None})
        labelled = len(labels) > 1 and all(entry.label is not None for entry in every)
        classes = tuple(str(i) for i in range(labels[-1] + 1)) if labelled else ()
        super().__init__(Path(path), size, entries, classes, max_bad=max_bad, memory=memory)

    def _promising(self, entry: Listed) -> bool:
        """Headers are not read in advance: shards are large, and curated ones whole."""
        return True

    def _lacking(self, field: str) -> str:
        if field == "caption":
            bare = next(entry.name for entry in self._entries if entry.caption is None)
            return f"Every sample needs a text, but '{bare}' in '{self.path}' has none (key.txt); add it."
        fields = ", ".join(sorted(self.facts.fields))
        return f"The shards in '{self.path}' have {fields}, but no {field}; choose other data."


def held_out(name: str) -> bool:
    """Whether a sample is for testing; its shard does not matter.

    >>> sum(held_out(f"000000/{i:06d}") for i in range(5000)) in range(70, 131)
    True
    """
    key = name.rpartition("/")[2]
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") % HELD_OUT == 0


def read_index(shard: Path) -> list[Stored]:
    """Every sample of a shard that has a picture, in the order in which keys first stand there."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    texts: dict[tuple[str, str], str] = {}
    for member, content in members(shard):
        folder, _, base = member.name.rpartition("/")
        stem, _, kind = base.partition(".")
        key, kind = f"{folder}/{stem}".lstrip("/"), kind.lower()
        if stem:
            found.setdefault(key, {})[kind] = (member.start, member.bytes)
        if kind in (_TEXT, _LABEL) and member.bytes <= _MOST_TEXT:
            texts[key, kind] = " ".join(bytes(content).decode("utf-8", "replace").split())
    changed = shard.stat().st_mtime_ns
    entries = []
    for key, parts in found.items():
        picture = next((suffix[1:] for suffix in SUFFIXES if suffix[1:] in parts), "")
        if picture:
            label = texts.get((key, _LABEL), "")
            start, size = parts[picture]
            number = int(label) if label.isdecimal() else None
            caption = texts.get((key, _TEXT)) or None
            entries.append(Stored(f"{shard.stem}/{key}", shard, start, size, changed, caption, number))
    return entries
