"""Batches for training, made one step ahead in a thread of their own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Dataset, Facts, Order

AHEAD = 2
"""Steps that are made before they are asked for."""


@dataclass(frozen=True)
class Parts:
    """What one process sees in one step: its microbatches and the examples in them."""

    step: int
    batches: tuple[Batch, ...]
    indices: Int[Tensor, " b"]


class Interrupted(Exception):
    """Training was stopped while it prepared its data."""


class Stoppable:
    """A dataset that raises ``Interrupted`` instead of reading once ``stop`` is true."""

    def __init__(self, whole: Dataset, stop: Callable[[], bool]):
        self._whole, self._stop = whole, stop

    @property
    def facts(self) -> Facts:
        return self._whole.facts

    def __len__(self) -> int:
        return len(self._whole)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        if self._stop():
            raise Interrupted
        return self._whole.batch(indices)


class Batches:
    """Which examples a step sees: a pure function of (seed, step), so that resuming needs no state.

    Row r of the joint batch of step k stands at position k * batch + r of the endless shuffled order,
    and draws from ``Rng.training(seed, k, r)``, whichever process and part it falls to.
    """

    def __init__(self, data: Dataset, *, batch: int, seed: int, rows: Sequence[range], device: torch.device):
        self.data, self.batch, self.seed, self.rows, self.device = data, batch, seed, list(rows), device
        self.order = Order(len(data), seed=seed)

    def at(self, step: int) -> Parts:
        """The microbatches of ``step``."""
        first = self.rows[0].start
        indices = self.order.rows(step * self.batch + first, self.rows[-1].stop - first)
        batches = []
        for rows in self.rows:
            fields = self.data.batch(indices[rows.start - first : rows.stop - first])
            batches.append(Batch(fields, Rng.training(self.seed, step, rows)).to(self.device))
        return Parts(step, tuple(batches), indices)


class Loader:
    """Makes the batches of the next steps in the background; ``next`` also measures the wait for them."""

    def __init__(self, batches: Batches, steps: range):
        self._batches, self._steps = batches, iter(steps)
        # One thread within: a second team of workers would fight the trainer's own.
        self._pool = ThreadPoolExecutor(1, "loader", initializer=torch.set_num_threads, initargs=(1,))
        self._coming: deque[Future[Parts]] = deque()
        for _ in range(AHEAD):
            self._order()
        self.waited = 0.0
        """Seconds the last ``next`` took."""

    def next(self) -> Parts:
        """The next step's microbatches; what went wrong while making them is raised here."""
        start = time.perf_counter()
        parts = self._coming.popleft().result()
        self.waited = time.perf_counter() - start
        self._order()
        return parts

    def close(self) -> None:
        """Forget what was ordered and end the thread."""
        self._pool.shutdown(cancel_futures=True)

    def _order(self) -> None:
        if (step := next(self._steps, None)) is not None:
            self._coming.append(self._pool.submit(self._batches.at, step))
