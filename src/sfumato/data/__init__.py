"""What systems learn from; no networks here."""

from __future__ import annotations

from pathlib import Path

from sfumato.data.dataset import Dataset
from sfumato.data.folder import Folder
from sfumato.data.pair_folder import DomainFolder, PairFolder
from sfumato.data.pictures import MAX_BAD
from sfumato.data.shards import Shards, is_shards
from sfumato.errors import DataError, UsageError, nearest
from sfumato.registry import DATASETS, find

DOWNLOADS = {"fashion": "sfumato.data.fashion:provide"}
"""Datasets that can be fetched, and the function which does it."""


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

    ``needs`` are fields a system cannot do without; ``allow_network`` lets missing files be downloaded;
    ``max_bad`` is the share of a folder's pictures that may be unreadable, if not the usual one.
    Raises ``UsageError`` for an unknown name and ``DataError`` for data that cannot be used or lacks a field.
    """
    options = {} if size is None else {"size": size}
    if name_or_dir in DATASETS and name_or_dir != "folder":
        if allow_network and name_or_dir in DOWNLOADS:
            find(name_or_dir, DOWNLOADS, "download")()
        dataset: Dataset = find(name_or_dir, DATASETS, "dataset")(split=split, **options)
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
    kind = Shards if is_shards(path) else Folder
    pictures = kind(split=split, path=path, max_bad=limit, **options)
    pictures.require(needs)
    return pictures


def _check(dataset: Dataset, needs: frozenset[str]) -> None:
    facts = dataset.facts
    if missing := sorted(needs - facts.fields):
        raise DataError(
            f"Dataset '{facts.name}' has {_listed(sorted(facts.fields))}, but no {_listed(missing)}; "
            f"choose one that has, such as '{_having(missing[0])}', or a folder of your own pictures."
        )


def _having(field: str) -> str:
    """A dataset that has a field."""
    return {"source": "edges-to-shapes", "a": "plain-to-striped", "b": "plain-to-striped"}.get(
        field, "shapes"
    )


def _nothing(name: str) -> DataError | UsageError:
    if "/" in name or name.startswith((".", "~")) or name == "folder":
        return DataError(f"There is no folder '{name}'; give the path of a folder that holds pictures.")
    names = [known for known in DATASETS if known != "folder"]
    return UsageError(f"There is neither a dataset nor a folder '{name}'{nearest(name, names)}")


def _listed(words: list[str]) -> str:
    return " and ".join(words)
