"""Batches for training, made one step ahead in a thread of their own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Dataset, Order

AHEAD = 2
"""Steps that are made before they are asked for."""
POLL = 0.1


@dataclass(frozen=True)
class Parts:
    """What one process sees in one step: its microbatches and the examples in them."""

    step: int
    batches: tuple[Batch, ...]
    indices: Int[Tensor, " b"]


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
    """Makes the batches of the next steps in the background; ``next`` also measures the wait for it."""

    def __init__(self, batches: Batches, first: int, last: int):
        self._batches, self._steps = batches, range(first, last)
        self._ready: queue.Queue[Parts | BaseException] = queue.Queue(AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="loader", daemon=True)
        self._thread.start()
        self.waited = 0.0
        """Seconds the last ``next`` took."""

    def next(self) -> Parts:
        """The next step's microbatches; what went wrong while making them is raised here."""
        start = time.perf_counter()
        parts = self._ready.get()
        self.waited = time.perf_counter() - start
        if isinstance(parts, BaseException):
            raise parts
        return parts

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()

    def _work(self) -> None:
        torch.set_num_threads(1)  # Of this thread alone: a second team of workers would fight the trainer's.
        for step in self._steps:
            try:
                made: Parts | BaseException = self._batches.at(step)
            except BaseException as error:
                made = error
            self._put(made)
            if self._closed.is_set() or isinstance(made, BaseException):
                return

    def _put(self, made: Parts | BaseException) -> None:
        while not self._closed.is_set():
            try:
                self._ready.put(made, timeout=POLL)
            except queue.Full:
                continue
            return
