"""The verb ``export``: a run as a folder that diffusers or transformers opens, or as a single file."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from sfumato.apps.talk import Common
from sfumato.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from sfumato.core.system import System

ONNX, SAFE = ".onnx", ".safetensors"
"""Names that end so are files, others folders."""
OPSET = 18
LARGEST = 16384
"""Most pixels a side that an ONNX file is declared for."""


@dataclass(frozen=True)
class Options(Common):
    """Write a run as a diffusers folder: model_index.json, one folder a network, safetensors.

    Example: sfumato export runs/digits exported/digits

    To a name that ends in .safetensors, a Stable Diffusion is written as one file, as its original code does.
    Where it ends in .onnx, it is one file that other programs run: a system that turns pictures into
    pictures, in grey levels 0 to 255, float32, (1, c, h, w). It needs the extra "onnx".
    """

    run: Annotated[Positional[str], tyro.conf.arg(metavar="RUN")]
    """A run folder, or a model that comes with the package."""
    out: Annotated[Positional[Path], tyro.conf.arg(metavar="OUT")]
    """A folder that does not exist yet, or is empty; or a file, FILE.onnx or FILE.safetensors."""


def check_free(out: Path, verb: str, *, file: bool = False) -> None:
    """Raise ``UsageError`` if a file, or in a folder anything, would be written over."""
    if out.exists() and (file or not out.is_dir()):
        raise UsageError(f"'{out}' is there already; choose another name")
    if out.is_dir() and any(out.iterdir()):
        raise UsageError(f"'{out}' is not empty; {verb} into a new folder")


def main(options: Options) -> int:
    """Load in fp32, write, print the folder or the file."""
    one = options.out.suffix in (ONNX, SAFE)
    check_free(options.out, "export", file=one)

    from sfumato.apps.load import load

    system = load(options.run, precision="fp32", device="cpu")
    if not one:
        system.to_diffusers(options.out)
        files = sorted(str(path) for path in options.out.rglob("*") if path.is_file())
        options.talk.result({"folder": str(options.out), "files": files})
    else:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        if options.out.suffix == SAFE:
            system.to_file(options.out)
        else:
            write_onnx(system, options.out, options.run)
        options.talk.result({"files": [str(options.out)]})
    options.talk.line(str(options.out))
    return 0


def write_onnx(system: System[Any], path: Path, name: str) -> None:
    """Write what a system does to pictures as an ONNX file, with how to use it in its metadata.

    Raises ``UsageError`` for a system that has no such form, ``MissingExtraError`` without onnx.
    """
    portable = system.portable()
    try:
        import onnxscript  # noqa: F401 - the exporter's own error names neither our extra nor a remedy
    except ImportError as error:
        raise MissingExtraError('ONNX needs the extra "onnx": pip install "sfumato[onnx]"') from error

    import torch

    from sfumato.images import save_bytes

    step, side = portable.multiple, 16 * portable.multiple
    height, width = (torch.export.Dim(axis, min=2, max=LARGEST // step) for axis in ("rows", "columns"))
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)  # It warns of every operation of torchvision that is not there.
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # Of what the exporter itself uses.
            program = torch.onnx.export(
                portable.module.float().eval(),
                (torch.zeros(1, system.channels, side, side + step),),
                input_names=["picture"],
                output_names=["painted"],
                dynamic_shapes=({2: step * height, 3: step * width},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        log.setLevel(before)
    assert program is not None
    proto = program.model_proto
    told = {"model": name, "range": [0, 255], "sides are multiples of": step}
    entry = proto.metadata_props.add()
    entry.key, entry.value = "sfumato", json.dumps(told)
    save_bytes(proto.SerializeToString(), path)
