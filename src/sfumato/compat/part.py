"""One network on disk as public formats keep it: a folder with ``config.json`` and tensors in safetensors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.errors import DataError

M = TypeVar("M", bound=nn.Module)
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


@dataclass(frozen=True)
class Part:
    """A configuration in somebody else's words, and tensors under somebody else's names."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(repr=False)
    folder: Path = Path()
    """Where it was read from; errors name it."""


@dataclass(frozen=True)
class Rename:
    """One rule that turns another tensor name into ours: a regular expression and its replacement."""

    theirs: str
    ours: str

    def apply(self, name: str) -> str:
        return re.sub(self.theirs, self.ours, name)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; anything else is a ``DataError``."""
    if not path.is_file():
        raise DataError(f"'{path}' is missing; copy it from the model that this folder was made from.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"'{path}' is not JSON ({error}); fetch it again.") from error
    if not isinstance(data, dict):
        raise DataError(f"'{path}' must hold a JSON object, got {type(data).__name__}; fetch it again.")
    return data


def read_part(folder: Path, stem: str) -> Part:
    """The network in ``folder`` with weights called ``stem`` (``model``, ``diffusion_pytorch_model``)."""
    return Part(read_json(folder / "config.json"), read_tensors(folder, stem), folder)


def write_part(part: Part, folder: Path, stem: str) -> None:
    """Write ``config.json`` and one safetensors file, weights in the type they have."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(part.config, folder / "config.json")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in part.tensors.items()}
    save_file(tensors, folder / f"{stem}.safetensors", metadata={"format": "pt"})


def write_json(data: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_tensors(folder: Path, stem: str) -> dict[str, Tensor]:
    """All tensors of one file, or of a list of files; of several variants the most exact.

    Pickled weights are refused, because reading them can run code.
    """
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(folder, stem):
        try:
            with safe_open(file, framework="pt") as stored:
                tensors |= {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise DataError(f"'{file}' is damaged or incomplete ({error}); fetch it again.") from error
    return tensors


def _weight_files(folder: Path, stem: str) -> list[Path]:
    for variant in ("", ".fp32", ".bf16", ".fp16"):
        whole = folder / f"{stem}{variant}.safetensors"
        if whole.is_file():
            return [whole]
        index = folder / f"{stem}.safetensors.index{variant}.json"
        if index.is_file():
            return _shards(index)
    if pickles := sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES):
        raise DataError(
            f"'{folder}' keeps its weights in {pickles[0]}, a pickle, which can run code when it is read; "
            f"save the model with safe_serialization=True, or fetch {stem}.safetensors."
        )
    raise DataError(f"'{folder}' has no {stem}.safetensors; fetch it, or copy it from the original model.")


def _shards(index: Path) -> list[Path]:
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise DataError(f"'{index}' has no list of files under 'weight_map'; fetch it again.")
    names = sorted(set(files.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise DataError(
                f"'{index}' names '{name}', which is no safetensors file beside it; fetch it again."
            )
        if not (index.parent / name).is_file():
            raise DataError(f"'{index.parent}' has no {name}, which {index.name} lists; fetch it.")
    return [index.parent / name for name in names]


def filled(
    build: Callable[[], M], part: Part, renames: Sequence[Rename] = (), ignore: Sequence[str] = ()
) -> M:
    """Build a network and give it the tensors of ``part``, which it then holds as they were stored.

    Renamed names must agree with the network's; tensors whose names match a pattern of ``ignore`` may be
    there or not. Everything that does not agree is told in one ``DataError``.
    """
    tensors = {}
    for name, tensor in part.tensors.items():
        for rename in renames:
            name = rename.apply(name)
        tensors[name] = tensor
    with torch.device("meta"):
        module = build()
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    extra = [n for n in tensors if n not in wanted and not any(re.fullmatch(p, n) for p in ignore)]
    misshapen = [
        f"{name} is {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in wanted.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    faults = [
        _count("missing", [name for name in wanted if name not in tensors]),
        _count("unknown", extra),
        _count("misshapen", misshapen),
    ]
    if any(faults):
        raise DataError(
            f"The weights in '{part.folder}' do not fit its config.json: {'; '.join(filter(None, faults))}. "
            "Take both files from the same model."
        )
    module.load_state_dict({name: tensors[name] for name in wanted}, assign=True)
    return module


def _count(what: str, names: list[str]) -> str:
    rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{len(names)} {what} ({names[0]}{rest})" if names else ""
