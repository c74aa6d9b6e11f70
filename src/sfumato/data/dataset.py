"""What a dataset is: a numbered, unchanging collection that hands out batches by index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Facts:
    """What a system must know about a dataset to fit it."""

    name: str
    channels: int
    height: int
    width: int
    fields: frozenset[str]
    """Of ``image``, ``caption``, ``label``, ``source`` (what ``image`` is to be made from), ``text``
    (what is written in it), ``a`` and ``b`` (pictures of two domains, no pairs), ``boxes`` (what stands in
    which, see ``data.scenery``) and what else a batch holds.
    All pictures have one size."""
    classes: tuple[str, ...] = ()
    """Names of the labels, in order; empty without labels."""
    words: tuple[str, ...] = ()
    """Every word of its captions, in a fixed order; empty without captions."""
    characters: str = ""
    """Every character of its texts, in a fixed order; empty without texts."""
    fingerprint: str = ""
    """Changes when the examples change; part of what makes resuming exact."""
    domains: tuple[str, ...] = ()
    """Names of what ``source`` and ``image``, or ``a`` and ``b``, are pictures of."""
    things: tuple[str, ...] = ()
    """Names of what its boxes hold, in order; empty without boxes."""


@runtime_checkable
class Dataset(Protocol):
    """A numbered collection of examples."""

    @property
    def facts(self) -> Facts: ...

    def __len__(self) -> int: ...

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        """The named examples: ``image`` float32 (b, c, h, w) in [-1, 1], ``label`` int64 (b,),
        ``caption`` a list of b strings. The same index gives the same example, always."""
        ...


def said_of(batch: Mapping[str, Any], facts: Facts) -> list[str]:
    """What is said of each picture of a batch: its caption, else the name of its class, else nothing."""
    if "caption" in batch:
        return list(batch["caption"])
    if facts.classes:
        return [facts.classes[i] for i in batch["label"].tolist()]
    return [""] * len(batch["image"])


class Order:
    """The order in which training sees examples: a fresh shuffle an epoch, a pure function of the seed.

    >>> Order(10, seed=0).rows(0, 4).tolist() == Order(10, seed=0).rows(0, 4).tolist()
    True
    """

    def __init__(self, length: int, *, seed: int):
        self.length, self.seed = length, seed
        self._epoch, self._shuffle = -1, torch.empty(0, dtype=torch.long)

    def rows(self, start: int, count: int) -> Int[Tensor, " b"]:
        """Indices of the examples at positions ``start`` to ``start + count`` of the endless order."""
        positions = range(start, start + count)
        return torch.tensor([self._at(position) for position in positions], dtype=torch.long)

    def _at(self, position: int) -> int:
        epoch, place = divmod(position, self.length)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._epoch, self._shuffle = epoch, torch.randperm(self.length, generator=generator)
        return int(self._shuffle[place])


@dataclass(frozen=True)
class Subset:
    """Some examples of another dataset."""

    whole: Dataset
    indices: Sequence[int]

    @property
    def facts(self) -> Facts:
        return self.whole.facts

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        return self.whole.batch(torch.as_tensor(self.indices)[indices])


@dataclass(frozen=True)
class Encoded:
    """A dataset with fields computed once for all, in place of its pictures."""

    whole: Dataset
    encoded: Mapping[str, Tensor]
    """Of as many rows as the dataset has examples."""
    labels: Mapping[str, Sequence[Any]]
    """The fields kept as they were: captions, labels."""
    live: tuple[str, ...] = ()
    """Fields that are asked of the whole anew each time, since they would fill the memory."""

    @property
    def facts(self) -> Facts:
        return self.whole.facts

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        kept = {k: [v[i] for i in indices.tolist()] for k, v in self.labels.items()}
        if self.live:
            fresh = self.whole.batch(indices)
            kept |= {k: fresh[k] for k in self.live}
        return kept | {k: v[indices] for k, v in self.encoded.items()}


@dataclass(frozen=True)
class Joined:
    """A dataset with fields computed once for all, beside its own."""

    whole: Dataset
    more: Mapping[str, Tensor]
    """Of as many rows as the dataset has examples."""

    @property
    def facts(self) -> Facts:
        return self.whole.facts

    def __len__(self) -> int:
        return len(self.whole)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        return {**self.whole.batch(indices), **{k: v[indices] for k, v in self.more.items()}}
