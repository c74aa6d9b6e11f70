"""unCLIP's figures as pictures: the importance of the prior (figure 8 of the paper), and what one does with
embeddings of pictures (figures 3 to 6)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sfumato.apps.sheet import Cell, write_table
from sfumato.core.request import Edit, Generate, Images, Interpolate, Request, TextDiff, Vary, Video
from sfumato.data.shapes.corner import CornerShape
from sfumato.data.shapes.scene import COLOURS, SHAPES
from sfumato.images import to_pil
from sfumato.systems.text.unclip import Unclip

SEED, SIDE = 3, 96
ROWS = 4


@torch.no_grad()
def made(system: Unclip, request: Request) -> Tensor:
    """The pictures, or frames, that answer a request."""
    *_, answer = system.run(request)
    assert isinstance(answer, Images | Video)
    return answer.pixels.flatten(0, -4)


def plates(system: Unclip, path: Path) -> Path:
    """Draw both: what one does with embeddings, and beside it NAME-prior.png, the importance of the prior."""
    data = CornerShape("test", system.config.height, levels={"full": 1.0})
    batch = data.batch(torch.arange(40, 40 + ROWS))
    importance(system, batch["image"], list(batch["caption"]), path.with_name(f"{path.stem}-prior.png"))
    uses(system, shown(data, "red", "circle"), shown(data, "green", "star"), path)
    return path


def shown(data: CornerShape, colour: str, shape: str) -> Tensor:
    """The first fresh picture of these."""
    scenes = data.scenes(torch.arange(1000))
    fits = (scenes.colour[:, 0] == COLOURS.index(colour)) & (scenes.shape[:, 0] == SHAPES.index(shape))
    return data.batch(fits.nonzero()[:1, 0])["image"]


def importance(system: Unclip, images: Tensor, captions: list[str], path: Path) -> None:
    """A picture of each caption from the text's embedding, a prior's, and the true picture's, two of each."""
    columns: list[Tensor] = []
    for prior in ("none", "autoregressive", "diffusion"):
        for seed in (SEED, SEED + len(captions)):
            asked = Generate(prompt=tuple(captions), count=len(captions), seed=seed, prior=prior)
            columns.append(made(system, asked))
    guided = system.config.guidance
    for seed in (SEED, SEED + len(captions)):
        asked_like = Vary(images=images, count=len(images), seed=seed, strength=1.0, guidance=guided)
        columns.append(made(system, asked_like))
    columns.append(images)
    heads = ("text embedding", "", "AR prior", "", "diffusion prior", "", "image embed.", "", "picture")
    rows = [
        [Cell(to_pil(column[i]), caption if k == 0 else "") for k, column in enumerate(columns)]
        for i, caption in enumerate(captions)
    ]
    write_table(rows, path, "unCLIP: the importance of the prior", heads=heads, side=SIDE)


def uses(system: Unclip, first: Tensor, last: Tensor, path: Path) -> None:
    """Rows: pictures from words, variations of a picture, from one picture to another, text differences, and
    words inside a mask."""
    words = ("a red circle", "a large green star", "a small yellow square", "a blue cross", "a pink ring")
    new = made(system, Generate(prompt=words, count=5, seed=SEED))
    variations = made(system, Vary(images=first, count=5, seed=SEED, strength=1.0))
    way = made(system, Interpolate(images=torch.cat([first, last]), count=2, frames=5))
    said = {"source": "a red circle", "target": "a blue circle"}
    shares = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    changes = [made(system, TextDiff(images=first, count=1, theta=theta, **said)) for theta in shares]
    mask, half = torch.zeros_like(first[:, :1]), first.shape[-1] // 2
    corners = (first - first.median()).abs().sum(1).unfold(1, half, half).unfold(2, half, half)
    row, column = divmod(int(corners.sum((3, 4)).argmax()), 2)
    mask[..., row * half : (row + 1) * half, column * half : (column + 1) * half] = 1
    inside = [
        made(system, Edit(images=first, mask=mask, prompt=prompt, count=1, seed=SEED + i))
        for i, prompt in enumerate(words[1:])
    ]
    table = [
        _row(new, words),
        _row(torch.cat([first, variations]), ("given", *["variation"] * 5)),
        _row(way, ("given", "", "", "", "", "given")),
        _row(torch.cat(changes), [f"red to blue, {theta:g}" for theta in shares]),
        _row(torch.cat([first, *inside]), ("given", *(f"inside: {word}" for word in words[1:]))),
    ]
    write_table(table, path, "unCLIP: words, variations, interpolation, text differences, masks", side=SIDE)


def _row(pictures: Tensor, captions: tuple[str, ...] | list[str]) -> list[Cell | None]:
    return [Cell(to_pil(x), caption) for x, caption in zip(pictures, captions, strict=True)]
