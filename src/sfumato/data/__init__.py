"""What systems learn from; no networks here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from sfumato.data.dataset import Dataset
from sfumato.data.folder import Folder
from sfumato.data.pair_folder import DomainFolder, PairFolder
from sfumato.data.pictures import MAX_BAD
from sfumato.data.shards import Shards, is_shards
from sfumato.data.word_folder import WordFolder
from sfumato.errors import DataError, UsageError, nearest
from sfumato.registry import DATASETS, find

DOWNLOADS = {"fashion": "sfumato.data.fashion:provide"}
"""Datasets that can be fetched, and the function which does it."""
SETTINGS = {
    **dict.fromkeys(("font-files", "fonts-unpaired"), ("source", "target", "characters")),
    "crops": ("folder",),
}
"""Datasets with settings of their own, as in ``font-files:source=a.ttf&target=b.ttf&target=c.ttf``."""


def open_data(
    name_or_dir: str,
    *,
    split: str = "train",
    size: int | None = None,
    needs: frozenset[str] = frozenset(),
    allow_network: bool = False,
    max_bad: float | None = None,
) -> Dataset:
    """Open a dataset by name, or a folder of pictures or of shards on disk (``./shapes`` for one named like a
    dataset).

    A few datasets take settings, which follow their name (``SETTINGS``, ``with_settings``).
    ``needs`` are fields a system cannot do without; ``allow_network`` lets missing files be downloaded;
    ``max_bad`` is the share of a folder's pictures that may be unreadable, if not the usual one.
    Raises ``UsageError`` for an unknown name and ``DataError`` for data that cannot be used or lacks a field.
    """
    options = {} if size is None else {"size": size}
    if is_registered(name_or_dir) and name_or_dir != "folder":
        name, settings = settings_of(name_or_dir)
        if allow_network and name in DOWNLOADS:
            find(name, DOWNLOADS, "download")()
        dataset: Dataset = find(name, DATASETS, "dataset")(split=split, **options, **settings)
        _check(dataset, needs)
        return dataset
    path = Path(name_or_dir).expanduser()
    if not path.exists():
        raise _nothing(name_or_dir)
    limit = MAX_BAD if max_bad is None else max_bad
    if "source" in needs:
        return PairFolder(split=split, path=path, **options)
    if {"a", "b"} & needs:
        return DomainFolder(split=split, path=path, max_bad=limit, **options)
    if "text" in needs:
        return WordFolder(split=split, path=path, max_bad=limit, **options)
    kind = Shards if is_shards(path) else Folder
    pictures = kind(split=split, path=path, max_bad=limit, **options)
    pictures.require(needs)
    return pictures


def is_registered(name_or_dir: str) -> bool:
    """Whether this names a dataset of the registry, with settings or without, and no folder."""
    name, _, settings = name_or_dir.partition(":")
    return name in DATASETS and (not settings or name in SETTINGS)


def with_settings(name: str, settings: Mapping[str, Sequence[str]]) -> str:
    """The name of a dataset together with settings, each of which may have several values.

    >>> with_settings("font-files", {"source": ["a.ttf"], "target": ["b & c.ttf", "d.ttf"]})
    'font-files:source=a.ttf&target=b+%26+c.ttf&target=d.ttf'
    """
    told = urlencode({key: list(values) for key, values in settings.items() if values}, doseq=True, safe="/#")
    return f"{name}:{told}" if told else name


def settings_of(text: str) -> tuple[str, Mapping[str, tuple[str, ...]]]:
    """The name of a dataset, and its settings."""
    name, _, rest = text.partition(":")
    try:
        told = parse_qs(rest, keep_blank_values=True, strict_parsing=True) if rest else {}
    except ValueError as error:
        example = "&".join(f"{key}=VALUE" for key in SETTINGS[name])
        raise UsageError(f"The settings in '{text}' must look like {example}.") from error
    for unknown in told.keys() - set(SETTINGS.get(name, ())):
        raise UsageError(f"Dataset '{name}' has no setting '{unknown}'{nearest(unknown, SETTINGS[name])}")
    return name, {key: tuple(values) for key, values in told.items()}


def _check(dataset: Dataset, needs: frozenset[str]) -> None:
    facts = dataset.facts
    if missing := sorted(needs - facts.fields):
        raise DataError(
            f"Dataset '{facts.name}' has {_listed(sorted(facts.fields))}, but no {_listed(missing)}; "
            f"choose one that has, such as '{_having(missing[0])}', or a folder of your own pictures."
        )


def _having(field: str) -> str:
    """A dataset that has a field."""
    known = {"text": "words", "source": "edges-to-shapes", "boxes": "labels-to-scenes"}
    known |= dict.fromkeys(("a", "b"), "plain-to-striped")
    return known.get(field, "shapes")


def _nothing(name: str) -> DataError | UsageError:
    if "/" in name or name.startswith((".", "~")) or name == "folder":
        return DataError(f"There is no folder '{name}'; give the path of a folder that holds pictures.")
    names = [known for known in DATASETS if known != "folder"]
    return UsageError(f"There is neither a dataset nor a folder '{name}'{nearest(name, names)}")


def _listed(words: list[str]) -> str:
    return " and ".join(words)
