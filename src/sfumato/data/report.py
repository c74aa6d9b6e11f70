"""What a user should know about a folder of pictures before training on it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sfumato.data.pictures import THREADS, Unreadable
from sfumato.data.scan import Entry, scan, splits
from sfumato.images import PictureError, measure, open_image


@dataclass(frozen=True)
class Report:
    """Everything found in a folder, over all its splits."""

    path: str
    pictures: int
    """Readable ones."""
    splits: Mapping[str, int]
    """Readable pictures of each split; only ``all`` if the folder is not divided."""
    bytes: int
    formats: Mapping[str, int]
    smallest: tuple[int, int]
    """(height, width), by area; (0, 0) without readable pictures."""
    median: tuple[int, int]
    largest: tuple[int, int]
    classes: Mapping[str, int]
    captioned: int
    uncaptioned: tuple[str, ...]
    unreadable: tuple[Unreadable, ...]
    strays: tuple[str, ...]
    """Pictures that metadata.jsonl names but the folder lacks."""
    others: Mapping[str, int]
    """How many files of which other kinds."""


def report(path: str | Path) -> Report:
    """Decode every picture of a folder once and say what is there.

    Raises ``DataError`` if there is no picture at all or a caption file is malformed.
    """
    folder = Path(path)
    roots = splits(folder)
    divided = len(set(roots.values())) == len(roots) > 0 and folder not in roots.values()
    scans = {split: scan(folder, split) for split in (roots if divided else ["train"])}
    prefixed = {
        split: [(f"{roots[split].name}/{e.name}" if divided else e.name, e) for e in found.entries]
        for split, found in scans.items()
    }
    named = [pair for pairs in prefixed.values() for pair in pairs]
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        looks = dict(zip([name for name, _ in named], pool.map(_look, [e for _, e in named]), strict=True))
    good = [(name, entry) for name, entry in named if not isinstance(looks[name], str)]
    seen = [look for look in looks.values() if not isinstance(look, str)]
    sizes = sorted(((height, width) for _, height, width in seen), key=lambda size: size[0] * size[1])
    sizes = sizes or [(0, 0)]
    classes = next(iter(scans.values())).classes
    members = Counter(classes[entry.label] for _, entry in good if entry.label is not None)
    others: Counter[str] = sum((Counter(found.others) for found in scans.values()), Counter())
    return Report(
        path=str(path),
        pictures=len(good),
        splits={
            (split if divided else "all"): sum(not isinstance(looks[name], str) for name, _ in pairs)
            for split, pairs in prefixed.items()
        },
        bytes=sum(entry.bytes for _, entry in named),
        formats=dict(Counter(kind for kind, _, _ in seen).most_common()),
        smallest=sizes[0],
        median=sizes[len(sizes) // 2],
        largest=sizes[-1],
        classes={name: members[name] for name in classes},
        captioned=sum(entry.caption is not None for _, entry in good),
        uncaptioned=tuple(name for name, entry in good if entry.caption is None),
        unreadable=tuple(Unreadable(name, look) for name, look in looks.items() if isinstance(look, str)),
        strays=tuple(name for found in scans.values() for name in found.strays),
        others=dict(others.most_common()),
    )


def _look(entry: Entry) -> tuple[str, int, int] | str:
    """Format, height and width of a picture that can be decoded; else why not."""
    try:
        facts = measure(entry.path)
        open_image(entry.path)
    except PictureError as error:
        return error.reason
    return facts
