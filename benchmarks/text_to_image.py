"""Words to pictures from scratch in equal time: our recipe, and arms that change one factor of it each.

    python -m benchmarks.text_to_image --minutes 20 --seeds 3 --out out/text-to-image [--arms ours diffusers]

All arms learn the captions of ``shapes`` in the latents of one first stage: same examples in the same order,
same noise, same batch, same warm-up and decay, and the same CPU seconds of a process with one thread. The
evaluation oracle reads 256 pictures of fresh captions at every mark, outside of that time. What is finished
is kept in --out, one file a run, and not run again.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import tyro

from benchmarks.arms import Args, encode, finished, learn, path


def main(args: Args) -> int:
    os.environ["OMP_NUM_THREADS"] = "1"
    args.out.mkdir(parents=True, exist_ok=True)
    runs = [(name, seed) for seed in range(args.seeds) for name in args.arms]
    todo = [run for run in runs if not finished(args, *run)]
    wall = len(todo) * args.minutes * 1.3 / args.jobs / 60
    print(
        f"{len(todo)} of {len(runs)} runs to do, {args.jobs} at once: about {wall:.1f} h with judging",
        flush=True,
    )
    begun, failed = time.monotonic(), 0
    if todo:
        with pool(1) as alone:
            alone.submit(encode, args).result()
    with pool(args.jobs) as workers:
        coming: dict[Future[float], tuple[str, int]] = {
            workers.submit(learn, args, *run): run for run in todo
        }
        for done, future in enumerate(as_completed(coming), start=1):
            name, seed = coming[future]
            try:
                said = f"all right {future.result():.3f}"
            except (BrokenProcessPool, RuntimeError, ValueError, OSError) as error:
                said, failed = f"failed: {error!r}", failed + 1
            left = (time.monotonic() - begun) / done * (len(todo) - done) / 60
            print(f"{name} seed {seed}: {said}; {len(todo) - done} left, about {left:.0f} min", flush=True)
    print(report(args))
    return 1 if failed else 0


def pool(jobs: int) -> ProcessPoolExecutor:
    """A fresh process for every run."""
    return ProcessPoolExecutor(jobs, get_context("spawn"), max_tasks_per_child=1)


def report(args: Args) -> str:
    """Means and standard deviations over seeds, and how soon ours was as good as each arm at its end."""
    found = {
        name: [
            [json.loads(line) for line in path(args, name, seed).read_text(encoding="utf-8").splitlines()]
            for seed in range(args.seeds)
            if finished(args, name, seed)
        ]
        for name in args.arms
    }
    marks = "".join(f"{f'{mark:.0%}':>14}" for mark in args.marks)
    rows = [f"all right after a share of {args.minutes:g} core-minutes", f"{'':14}{'ex/s':>6}{marks}"]
    curves = {}
    for name, runs in found.items():
        if runs:
            columns = [[run[i]["all"] for run in runs] for i in range(len(args.marks))]
            curves[name] = [statistics.fmean(column) for column in columns]
            speed = statistics.fmean(run[-1]["examples_per_second"] for run in runs)
            rows.append(f"{name:14}{speed:6.0f}" + "".join(f"{spread(column):>14}" for column in columns))
    rows.append("\nat the end, by attribute (objects: all attributes of an object)")
    for name, runs in found.items():
        ends = [run[-1]["attributes"] | {"objects": run[-1]["objects"]} for run in runs]
        said = (f"{k} {spread([end[k] for end in ends])}" for k in (ends[0] if ends else ()))
        rows.append(f"{name:14}" + ", ".join(said))
    for name, curve in curves.items():
        if "ours" in curves and name != "ours":
            share = reached(curves["ours"], args.marks, curve[-1])
            told = "never was" if share is None else f"was after {share:.2f} of the time"
            rows.append(
                f"as accurate as {name} at its end ({curve[-1]:.3f}), ours {told}"
                if curve[-1]
                else f"{name} had none right at its end"
            )
    return "\n".join(rows)


def spread(values: Sequence[float]) -> str:
    told = f"{statistics.fmean(values):.3f}"
    return f"{told} ± {statistics.stdev(values):.3f}" if len(values) > 1 else told


def reached(curve: Sequence[float], marks: Sequence[float], level: float) -> float | None:
    """The share of time at which a curve from (0, 0), straight between its marks, first reaches a level."""
    before = (0.0, 0.0)
    for mark, value in zip(marks, curve, strict=True):
        if value >= level:
            rise = (level - before[1]) / (value - before[1]) if value > before[1] else 1.0
            return before[0] + rise * (mark - before[0])
        before = (mark, value)
    return None


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(Args, description=__doc__)))
