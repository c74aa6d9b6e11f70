"""Who does many small pieces of work: processes of this machine, or Ray on one machine or many.

A piece is a function of (context, number) that writes a file; the same pieces give the same files, whoever
does them and in whatever order. So engines differ in speed alone.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import connection
from typing import Any, Literal, Protocol, runtime_checkable

from sfumato.errors import MissingExtraError, UsageError

Piece = Callable[[Any, int], None]
"""A function at the top of a module, so that other processes can find it."""
Name = Literal["local", "ray"]
AHEAD = 2
"""Pieces waiting for each worker."""


@runtime_checkable
class Engine(Protocol):
    """Does pieces of work and says which are done; to be used in a ``with``, which ends its workers."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, *error: object) -> None: ...

    def each(self, piece: Piece, context: Any, numbers: Sequence[int]) -> Iterator[int]:
        """Numbers in the order in which they are done; what goes wrong in one is raised here."""
        ...


def engine(name: Name, workers: int | None = None) -> Engine:
    """The engine of that name with so many workers; as many as there are cores by default."""
    if workers is not None and workers < 1:
        raise UsageError(f"There is no work without workers, got {workers}; give --workers 1 or more.")
    return Ray(workers) if name == "ray" else Local(workers or len(os.sched_getaffinity(0)))


class Local:
    """Processes of this machine, started when there is work for several; one worker is this process."""

    def __init__(self, workers: int):
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Local:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def each(self, piece: Piece, context: Any, numbers: Sequence[int]) -> Iterator[int]:
        if self.workers == 1 or (self._pool is None and len(numbers) < 2):
            for number in numbers:
                piece(context, number)
                yield number
            return
        if self._pool is None:
            # Started afresh: a forked process would inherit threads that hold locks.
            fresh = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.workers, fresh, initializer=_as_worker)
        left, doing = iter(numbers), dict[Future[None], int]()
        while True:
            for number in islice(left, AHEAD * self.workers - len(doing)):
                doing[self._pool.submit(piece, context, number)] = number
            if not doing:
                return
            for future in wait(doing, return_when=FIRST_COMPLETED).done:
                number = doing.pop(future)
                future.result()
                yield number


def _as_worker() -> None:
    """Leave Ctrl-C to the process that started us, and end when it ends, however it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(parent: int) -> None:
    connection.wait([parent])
    os._exit(1)


class Ray:
    """Ray Data's actors, here or on the cluster of ``RAY_ADDRESS``, whose machines must share the folders."""

    def __init__(self, workers: int | None):
        self.workers, self._mine = workers, False

    def __enter__(self) -> Ray:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report home
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise MissingExtraError(
                "The engine 'ray' is not installed; get it with: pip install 'sfumato[scale]'"
            ) from error
        if not ray.is_initialized():
            here = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": self.workers}
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", **here)
            self._mine = True
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        if self._mine:
            ray.shutdown()

    def each(self, piece: Piece, context: Any, numbers: Sequence[int]) -> Iterator[int]:
        if not numbers:
            return
        import ray
        import ray.data

        workers = min(self.workers or int(ray.cluster_resources()["CPU"]), len(numbers))
        pieces = ray.data.from_items(list(numbers), override_num_blocks=len(numbers))
        done = pieces.map_batches(
            _Actor,
            fn_constructor_args=(piece, context),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
        )
        for row in done.iter_rows():
            yield int(row["item"])


class _Actor:
    """A worker of Ray's, which loads what it needs once."""

    def __init__(self, piece: Piece, context: Any):
        self.piece, self.context = piece, context

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        for number in batch["item"]:
            self.piece(self.context, int(number))
        return batch
