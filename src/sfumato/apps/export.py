"""The verb ``export``: a run as a folder that diffusers opens, or as a single file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from sfumato.apps.talk import Common
from sfumato.errors import UsageError


@dataclass(frozen=True)
class Options(Common):
    """Write a run as a diffusers folder: model_index.json, one folder a network, safetensors.

    Example: sfumato export runs/digits exported/digits

    To a name that ends in .safetensors, a Stable Diffusion is written as one file, as its original code does.
    """

    run: Positional[str]
    """A run folder, or a model that comes with the package."""
    out: Positional[Path]
    """A folder that does not exist yet, or is empty."""


def main(options: Options) -> int:
    """Load in fp32, write, print the folder."""
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise UsageError(f"'{options.out}' is not empty; export into a new folder")

    from sfumato.apps.load import load

    system = load(options.run, precision="fp32", device="cpu")
    if options.out.suffix == ".safetensors":
        options.out.parent.mkdir(parents=True, exist_ok=True)
        system.to_file(options.out)
    else:
        system.to_diffusers(options.out)
    files = sorted(str(path) for path in (options.out, *options.out.rglob("*")) if path.is_file())
    options.talk.result({"folder": str(options.out), "files": files})
    options.talk.line(str(options.out))
    return 0
