"""The verb ``bpd``: how many bits a number of a picture costs a diffusion, by its variational bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from sfumato.apps.bar import Bar
from sfumato.apps.talk import Common, table
from sfumato.errors import UsageError


@dataclass(frozen=True)
class Options(Common):
    """Bound how many bits a number of a picture costs: raw pixels cost 8, a perfect model the least there is.

    Example: sfumato bpd runs/ddpm-digits --count 64

    It is a bound of the whole chain (Ho et al. 2020, eq. 5), on pictures the run has not learned from.
    """

    run: Annotated[Positional[str], tyro.conf.arg(metavar="RUN")]
    """A run folder, or a model that comes with the package."""
    data: str | None = None
    """Whose test pictures to take; by default those of the data it learned from."""
    count: int = 64
    """Pictures."""
    steps: int | None = None
    """Steps of the chain; by default all of the process. Fewer are a coarser model, which costs more."""
    seed: int = 0
    """Of the noise."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Of the network."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ..."""


def main(options: Options) -> int:
    """Load, bound, tell."""
    if options.count < 2:
        raise UsageError(f"--count must be at least 2, so that there is a spread, got {options.count}")

    import torch

    from sfumato.apps.load import folder_of, load
    from sfumato.core.checkpoint import RunFolder
    from sfumato.core.rng import Rng
    from sfumato.data import open_data
    from sfumato.systems.diffusion.pixels import PixelDiffusion

    folder = folder_of(options.run)
    system = load(folder, precision=options.precision, device=options.device)
    if not isinstance(system, PixelDiffusion):
        raise UsageError(
            f"Only diffusions over pixels have this bound, and '{options.run}' holds "
            f"{type(system).__name__}; give a run of ddpm or adm."
        )
    recipe = RunFolder.open(folder).recipe
    data = open_data(options.data or recipe.data, split="test", size=recipe.size)
    batch = data.batch(torch.arange(min(options.count, len(data))))
    steps = options.steps or system.chain
    terms = []
    with Bar("bounding", options.talk) as bar:
        rng = Rng.sampling(options.seed, len(batch["image"]))
        for i, term in enumerate(system.bits(batch["image"], batch.get("label"), steps, rng)):
            terms.append(term.double().cpu())
            bar.update(i / steps)
    each = torch.stack(terms)
    total = each.sum(0)
    spread = total.std().item() / len(total) ** 0.5
    parts = {"prior": each[0], "steps": each[1:-1].sum(0), "grey levels": each[-1]}
    told = {"bits": total.mean().item(), "spread": spread, "n": len(total), "steps": steps}
    options.talk.result(told | {"parts": {name: value.mean().item() for name, value in parts.items()}})
    lines = [["all", f"{told['bits']:.3f} +- {spread:.3f}"]]
    lines += [[name, f"{value.mean().item():.3f}"] for name, value in parts.items()]
    options.talk.show(table(["part", f"bits a number, n = {len(total)}, {steps} steps"], lines))
    return 0
