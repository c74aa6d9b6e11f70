"""Sides do the same work in turn, each in a process of its own, free of the others' settings."""

from __future__ import annotations

import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Work = Callable[[], Any]
QUIET = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error"}
"""For the environment: libraries that say nothing besides the result."""


@dataclass
class Side:
    """One contender, and what was measured of it."""

    name: str
    prepare: Callable[[], Work]
    """Imports, loads, and gives the work to be timed; picklable."""
    start: float = 0.0
    """Seconds that ``prepare`` took, imports included."""
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Seconds of all its threads."""
    peak: float = 0.0
    """Largest resident memory so far, in MiB."""
    answer: Any = None
    """Of the last time it worked."""


def race(sides: Sequence[Side], rounds: int, *, warm: int = 1) -> None:
    """Let all sides work in turn, ``warm`` times untimed, then ``rounds`` times; they keep the figures."""
    context = multiprocessing.get_context("spawn")
    lines = []
    for side in sides:
        here, there = context.Pipe()
        context.Process(target=_serve, args=(side.prepare, there), daemon=True).start()
        there.close()
        side.start = here.recv()
        lines.append(here)
    for turn in range(warm + rounds):
        for side, line in zip(sides, lines, strict=True):
            line.send(True)
            wall, cpu, side.peak, side.answer = line.recv()
            if turn >= warm:
                side.wall.append(wall)
                side.cpu.append(cpu)
    for line in lines:
        line.send(False)


def table(sides: Sequence[Side]) -> str:
    """Medians, and ratios to the first side: the median over rounds, with the quartiles of CPU time's."""
    rows = [f"{'':24}{'wall s':>9}{'CPU s':>9}{'wall':>8}{'CPU ratio':>20}{'peak MiB':>10}{'start s':>9}"]
    for side in sides:
        wall, cpu = (statistics.median(seconds) for seconds in (side.wall, side.cpu))
        ratios = sorted(_ratios(side.cpu, sides[0].cpu))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        spread = f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f})"
        walls = statistics.median(_ratios(side.wall, sides[0].wall))
        rows.append(
            f"{side.name:24}{wall:9.3f}{cpu:9.3f}{walls:8.2f}{spread:>20}{side.peak:10.0f}{side.start:9.2f}"
        )
    return "\n".join(rows)


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def _serve(prepare: Callable[[], Work], line: Connection) -> None:
    start = time.perf_counter()
    work = prepare()
    line.send(time.perf_counter() - start)
    while line.recv():
        wall, cpu = time.perf_counter(), time.process_time()
        answer = work()
        line.send((time.perf_counter() - wall, time.process_time() - cpu, _peak(), answer))


def _peak() -> float:
    """As Linux counts it for this program alone; ``getrusage`` would inherit the parent's."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) / 1024 if found else float("nan")
