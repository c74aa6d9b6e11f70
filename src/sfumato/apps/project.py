"""The verb ``project``: the latents that come closest to given pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.apps.ask import Asked
from sfumato.apps.remake import Remade, Resizing, remake, size_of
from sfumato.apps.talk import counted
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from sfumato.apps.given import Part
    from sfumato.core.request import Invert


@dataclass(frozen=True, kw_only=True)
class Options(Resizing):
    """Find the latents whose pictures come closest to given ones.

    Example: sfumato project portrait.png --steps 300 --model runs/stylegan

    Writes one PNG a picture, latents.safetensors, and sheet.png, which shows before and after.
    """

    space: str = ""
    """Which latent space, for a system with several; by default its first."""
    steps: int | None = None
    """Steps of the search; by default the system's own."""


def main(options: Options) -> int:
    """Load, search, write; paths go to stdout."""
    if options.steps is not None and options.steps < 1:
        raise UsageError(f"--steps must be at least 1, got {options.steps}")
    from sfumato.core.request import Invert

    asked = Asked.open(options, Invert)

    def request_for(part: Part) -> Invert:
        return Invert(
            seed=options.seed + part.first,
            count=len(part.given),
            images=part.pixels,
            space=options.space,
            steps=options.steps,
        )

    made = remake(asked, options, request_for, size=size_of(options, asked), doing="projecting")
    paths = made.paths + ([save_latents(made, options.out)] if made.latents else [])
    return asked.tell(counted(len(made.settings), "picture"), paths, made.notes, seeds=made.seeds)


def save_latents(made: Remade, out: Path) -> Path:
    """Write ``latents``, a row a picture, as safetensors; its metadata names the pictures."""
    import torch
    from safetensors.torch import save

    from sfumato import images
    from sfumato.apps.pictures import free, shared

    settings = shared(tuple(made.settings)) | {"pictures": [path.name for path in made.paths[:-1]]}
    path = free(out / "latents.safetensors", settings)
    told = {"sfumato": json.dumps(settings)}
    images.save_bytes(save({"latents": torch.cat(made.latents)}, metadata=told), path)
    return path
