"""The verb ``convert``: a single file of Stable Diffusion as a folder that everybody opens."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from sfumato.apps.export import check_free
from sfumato.apps.talk import Common
from sfumato.errors import DataError, UsageError

TRUSTED = (".ckpt", ".pt", ".pth")
"""Kinds of file that are pickles."""
SAFE_FROM = (2, 10)
"""The version of PyTorch from which ``weights_only`` is known to hold (CVE-2025-32434, CVE-2026-24747)."""


@dataclass(frozen=True)
class Options(Common):
    """Write a single file of Stable Diffusion 1, 2 or XL as a diffusers folder.

    Example: sfumato convert v1-5-pruned.safetensors ./sd15

    A .safetensors file can be used as it is, too: --model FILE. A .ckpt is a pickle, which can run code when
    it is read; it is opened only with --trust, in a process of its own, and nothing in it is run even then.
    """

    file: Annotated[Positional[Path], tyro.conf.arg(metavar="FILE")]
    """A .safetensors file, or with --trust a .ckpt."""
    out: Annotated[Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """A folder that does not exist yet, or is empty."""
    trust: bool = False
    """Read a pickle."""
    tokenizer: Path | None = None
    """The folder with CLIP's vocab.json and merges.txt; by default 'tokenizer' beside the file."""
    predicts: Literal["", "eps", "v"] = ""
    """What the network was trained to predict, where the file does not say: eps or v."""


def main(options: Options) -> int:
    """Read, write, print the folder."""
    check_free(options.out, "convert")
    if not options.file.is_file():
        raise UsageError(f"There is no file '{options.file}'; give a .safetensors or a .ckpt file")
    if options.file.suffix not in (".safetensors", *TRUSTED):
        raise UsageError(f"'{options.file}' is no weight file; give a .safetensors or a .ckpt file")
    pickled = options.file.suffix in TRUSTED
    if pickled and not options.trust:
        raise UsageError(
            f"'{options.file}' is a pickle, which can run code when it is read; if you trust where it came "
            "from, add --trust, or fetch the same model as .safetensors"
        )
    if not pickled:
        return _convert(options, options.file)
    with tempfile.TemporaryDirectory(dir=options.out.absolute().parent) as place:
        safe = Path(place) / "model.safetensors"
        _unpickle(options.file, safe)
        return _convert(options, safe)


def _convert(options: Options, file: Path) -> int:
    from sfumato.compat.single_file import read_single_file, tokenizer_beside
    from sfumato.systems.diffusion.ldm import LDM

    words = options.tokenizer or tokenizer_beside(options.file)
    system = LDM.from_parts(read_single_file(file, options.predicts, words))
    system.to_diffusers(options.out)
    for note in system.notes:
        options.talk.warn(note)
    files = sorted(str(path) for path in options.out.rglob("*") if path.is_file())
    options.talk.result({"folder": str(options.out), "files": files})
    options.talk.line(str(options.out))
    return 0


def _unpickle(file: Path, safe: Path) -> None:
    """Read a pickle in another process, which leaves the tensors behind as safetensors and ends."""
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_FROM:
        raise UsageError(
            f"Pickles are read with PyTorch 2.10 or newer alone, this is {torch.__version__}; upgrade it."
        )
    code = "from pathlib import Path; import sys; from sfumato.apps.convert import tensors_of; "
    code += "tensors_of(Path(sys.argv[1]), Path(sys.argv[2]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(file), str(safe)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["it ended early"]
        raise DataError(f"'{file}' could not be read: {reason[0].partition(': ')[2] or reason[0]}")


def tensors_of(file: Path, safe: Path) -> None:
    """Write the tensors of a pickle as safetensors; of a training checkpoint, those of its network."""
    from sfumato.compat.pth import read_pth
    from sfumato.core.durable import write_tensors

    tensors, network = read_pth(file), "state_dict/"
    inside = {name.removeprefix(network): t for name, t in tensors.items() if name.startswith(network)}
    write_tensors(safe, {name: t.contiguous() for name, t in (inside or tensors).items()}, {"format": "pt"})
