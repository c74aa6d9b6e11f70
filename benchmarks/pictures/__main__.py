"""Makes the pictures of the systems' pages from the models that come along, or from runs.

Example: python -m benchmarks.pictures adain captioner ddpm=runs/ddpm-digits --out docs/pictures

What is shown comes from held-out data, fresh prompts and fixed seeds; nothing is chosen by how it turned out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.pictures import codes, noise, reading, sight, unclip, words
from sfumato import load
from sfumato.device import setup
from sfumato.errors import UsageError, nearest
from sfumato.registry import SYSTEMS, find

Draw = Callable[..., Path]
"""From one system or several, and where to write, to what was written."""


def _diffusion(name: str) -> Draw:
    return lambda system, *, path: noise.digits(system, name, path)


PLATES: dict[str, tuple[Draw, Sequence[str]]] = {
    "adain": (sight.adain, ("adain",)),
    "adm": (noise.adm, ()),
    "ae": (codes.ae, ()),
    "captioner": (words.captioner, ("captioner",)),
    "clip": (words.clip, ("clip-shapes",)),
    "dalle": (words.dalle, ("dalle",)),
    "dfgan": (words.dfgan, ()),
    "faststyle": (sight.faststyle, ("brushwork",)),
    "gan": (codes.gan, ()),
    "glide": (words.glide, ()),
    "htr": (reading.htr, ("reader",)),
    "imagen": (words.imagen, ("imagen",)),
    "kl": (codes.kl, ("shapes",)),
    "ldm": (words.ldm, ("shapes",)),
    "ldmsr": (codes.ldmsr, ()),
    "prior": (reading.prior, ("unclip",)),
    "projected": (codes.projected, ()),
    "stackgan": (words.stackgan, ()),
    "t5": (reading.t5, ()),
    "unclip": (unclip.plates, ("unclip",)),
    "vgg": (sight.vgg, ("vgg-small",)),
    "vqvae": (codes.vqvae, ()),
    **{name: (_diffusion(name), ()) for name in noise.WAYS},
}
"""By system: what draws its plate, and the models that come along which it shows; none where a run is
needed."""
INSIDE = {"kl": "ldm", "prior": "unclip"}
"""Systems that are shown as parts of others."""


def main() -> None:
    """Draw what is asked for, and say where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("systems", nargs="*", help="NAME, or NAME=RUN; gan=RUN,RUN shows two games")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    given = parser.parse_args()
    setup()
    for entry in given.systems or [name for name, (_, models) in PLATES.items() if models]:
        name, _, runs = entry.partition("=")
        if name not in PLATES:
            raise UsageError(f"There is no plate of '{name}'{nearest(name, PLATES)}")
        draw, models = PLATES[name]
        shown = runs.split(",") if runs else models
        if not shown:
            raise UsageError(f"No {name} comes along; train one, and say {name}=RUN.")
        systems = [load(model, precision="fp32", device="cpu") for model in shown]
        kind = find(INSIDE.get(name, name), SYSTEMS, "system")
        if other := next((system for system in systems if not isinstance(system, kind)), None):
            raise UsageError(f"The plate of {name} shows a {kind.__name__}, got a {type(other).__name__}.")
        print(draw(*systems, path=given.out / f"{name}.png"), flush=True)


if __name__ == "__main__":
    main()
