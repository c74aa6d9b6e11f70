"""Pictures from words: ours beside diffusers', default settings on both sides, random weights.

    python -m benchmarks.generation [--large] [--rounds N] [--count N]

Sides work in turn, each in its own process, and the table compares wall time, CPU time, memory and start.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks import folders
from benchmarks.race import QUIET, Side, Work, race, table

PROMPT = "a red circle above a blue square"


@dataclass(frozen=True)
class Args:
    """What is compared."""

    large: bool = False
    """Stable Diffusion 1.5's shape, 4 steps at 512 pixels, in place of 20 small steps at 128 pixels."""
    rounds: int = 0
    """How often each side is timed; 0 means 15, or 3 with --large."""
    count: int = 0
    """Pictures at once; 0 means 4, or 1 with --large."""
    steps: int = 0
    """Of the solver; 0 means 20, or 4 with --large."""
    warm: int = 1
    """How often each side works before it is timed."""
    keep: Path | None = None
    """Where the folder is written and kept for the next time; none means it is deleted."""


def main(args: Args) -> None:
    os.environ |= QUIET
    name, rounds, count, steps = ("sd15", 3, 1, 4) if args.large else ("small", 15, 4, 20)
    rounds, count, steps = args.rounds or rounds, args.count or count, args.steps or steps
    with tempfile.TemporaryDirectory() as aside:
        folder = (args.keep or Path(aside)) / name
        if not folder.exists():
            write(folders.SHAPES[name], folder)
        sides = [
            Side("diffusers", partial(diffusers, folder, count, steps)),
            Side("sfumato", partial(sfumato, folder, count, steps, "auto")),
            Side("sfumato fp32", partial(sfumato, folder, count, steps, "fp32")),
        ]
        race(sides, rounds, warm=args.warm)
    print(f"{name}: {count} x {steps} steps, {rounds} rounds")
    print(table(sides))
    theirs, ours, exact = (side.answer for side in sides)
    print(f"PSNR of ours to ours in fp32: {psnr(ours, exact):.1f} dB; ", end="")
    print(f"of ours in fp32 to diffusers': {psnr(exact, theirs):.1f} dB; ", end="")
    print(f"pictures have mean {theirs.mean():.0f} and standard deviation {theirs.std():.0f} of 255")


def write(shape: folders.Shape, folder: Path) -> None:
    """In a process of its own, whose memory is gone before anything is measured."""
    writer = multiprocessing.get_context("spawn").Process(target=folders.write, args=(shape, folder))
    writer.start()
    writer.join()
    if writer.exitcode:
        raise SystemExit("The folder could not be written.")


def diffusers(folder: Path, count: int, steps: int) -> Work:
    """Their pipeline, as its documentation calls it."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)

    def work() -> Any:
        seeds = [torch.Generator().manual_seed(i) for i in range(count)]
        images = pipe(PROMPT, num_inference_steps=steps, num_images_per_prompt=count, generator=seeds).images
        return np.stack([np.asarray(image) for image in images])

    return work


def sfumato(folder: Path, count: int, steps: int, precision: Any) -> Work:
    """Our system, as the command line calls it."""
    from sfumato import Generate, load
    from sfumato.images import to_pil

    system = load(folder, precision=precision)
    request = Generate(prompt=PROMPT, count=count, steps=steps)

    def work() -> Any:
        *_, answer = system.run(request)
        return np.stack([np.asarray(to_pil(pixels)) for pixels in answer.pixels])

    return work


def psnr(a: Any, b: Any) -> float:
    """Of two stacks of pictures in 0 to 255, in decibels."""
    error = np.square(a.astype(np.float64) - b).mean()
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
