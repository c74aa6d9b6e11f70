"""A shape comes out of smoke: what the model believes the picture to be, step after step."""

from pathlib import Path

import torch
import tyro

import sfumato
from sfumato import images

PROMPT = "a red circle above a blue square"


def main(prompt: str = PROMPT, model: str = "shapes", count: int = 3, out: Path = Path("steps.png")) -> None:
    """Write a strip for each picture, from noise on the left to the result on the right."""
    request = sfumato.Generate(prompt=prompt, count=count, steps=12)
    # A run is a generator: previews, progress bars and stopping early are a loop of your own.
    *progress, answer = sfumato.load(model).run(request)
    moments = [event.preview() for event in progress] + [answer.pixels]
    strips = torch.stack(moments, dim=1).flatten(0, 1)
    images.save_png(images.grid(strips, columns=len(moments)), out)
    print(out)


if __name__ == "__main__":
    tyro.cli(main)
