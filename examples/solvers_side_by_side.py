"""One seed, several solvers, more and more steps: where do they agree, and how soon?"""

from itertools import product
from pathlib import Path

import torch
import tyro

import sfumato
from sfumato import images

PROMPT = "a large striped green star at the centre on a white background"
SOLVERS, STEPS = ("ddim", "heun", "dpmpp_2m", "plms"), (2, 4, 8, 16)


def main(prompt: str = PROMPT, model: str = "shapes", out: Path = Path("solvers.png")) -> None:
    """Write a sheet with a row for each solver and a column for each number of steps."""
    system, cells = sfumato.load(model), []
    for solver, steps in product(SOLVERS, STEPS):
        # The same seed is the same noise: all walk the same path, but some keep closer to it.
        request = sfumato.Generate(prompt=prompt, seed=0, count=1, solver=solver, steps=steps)
        *_, answer = system.run(request)
        cells.append(answer.pixels)
    images.save_png(images.grid(torch.cat(cells), columns=len(STEPS)), out)
    print(out)


if __name__ == "__main__":
    tyro.cli(main)
