"""One network on disk as public formats keep it: a folder with ``config.json`` and tensors in safetensors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sfumato.core.durable import write_tensors
from sfumato.errors import DataError

TOGETHER = 16
"""Tensors that share a mapping of their file: its memory goes when the last of them is gone or converted."""
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


@dataclass(frozen=True)
class Rename:
    """One rule that turns another tensor name into ours: a regular expression and its replacement."""

    theirs: str
    ours: str


@dataclass(frozen=True)
class Format:
    """How one kind of network is kept."""

    stem: str
    """Name of the weight file without its endings: ``model``, ``diffusion_pytorch_model``."""
    renames: tuple[Rename, ...] = ()
    """From old names to those that are written today, which are ours."""
    ignore: tuple[str, ...] = ()
    """Patterns of tensors that old files hold and nobody needs."""


OLD_ATTENTION = tuple(
    Rename(rf"(attentions\.\d+)\.{theirs}\.", rf"\1.{ours}.")
    for theirs, ours in {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}.items()
)
"""Names that diffusers gave the parts of attention before version 0.13."""
DIFFUSERS = Format("diffusion_pytorch_model", OLD_ATTENTION)


@dataclass(frozen=True)
class Weights:
    """Tensors under our names, and where they come from."""

    tensors: Mapping[str, Tensor] = field(repr=False)
    folder: Path = Path()


@dataclass(frozen=True)
class Keys:
    """What a configuration file may say."""

    read: Mapping[str, Any]
    """Settings that are read, with what is meant where they are missing."""
    meant: Mapping[str, tuple[Any, ...]]
    """Settings that would change the answer, with the values that are understood."""
    mute: tuple[str, ...] = ()
    """Settings that change nothing here."""
    strict: bool = True
    """Whether a setting unknown to all three is refused, unless it is null or false."""

    def of(self, config: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The settings that are read; one that is not understood is a ``DataError``."""
        for key, value in config.items():
            unread = not key.startswith("_") and key not in self.read and key not in self.mute
            allowed = self.meant.get(key, (None, False))
            if unread and (self.strict or key in self.meant) and value not in allowed:
                raise DataError(refusal(where, key, value, allowed))
        return {key: config.get(key, default) for key, default in self.read.items()}


def among(where: str, said: Mapping[str, Any], key: str, allowed: tuple[Any, ...]) -> Any:
    """The value of a setting, which must be one of ``allowed``."""
    if said[key] not in allowed:
        raise DataError(refusal(where, key, said[key], allowed))
    return said[key]


def refusal(where: str, key: str, value: Any, allowed: tuple[Any, ...]) -> str:
    """What to say of a setting that would change the answer in an unknown way."""
    told = " or ".join(repr(a) for a in allowed)
    return f"'{where}' sets {key} to {value!r}, but only {told} is understood; pictures would differ."


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


def read_weights(folder: Path, form: Format) -> Weights:
    """All tensors of one file, or of a list of files; of several variants the most exact.

    Pickled weights are refused, because reading them can run code.
    """
    tensors: dict[str, Tensor] = {}
    for file in _files(folder, form.stem):
        try:
            tensors |= {_named(name, form): tensor for name, tensor in stored(file)}
        except (SafetensorError, OSError) as error:
            raise DataError(f"'{file}' is damaged or incomplete ({error}); fetch it again.") from error
    useless = [name for name in tensors if any(re.fullmatch(pattern, name) for pattern in form.ignore)]
    return Weights({name: tensor for name, tensor in tensors.items() if name not in useless}, folder)


def stored(file: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a file, mapped a few at a time: kernels of convolutions apart, since all of them will be
    laid out anew, so that no mapping is kept for them."""
    with safe_open(file, framework="pt") as stored:
        names = sorted(stored.keys(), key=lambda name: len(stored.get_slice(name).get_shape()) == 4)
    for start in range(0, len(names), TOGETHER):
        with safe_open(file, framework="pt") as stored:
            yield from ((name, stored.get_tensor(name)) for name in names[start : start + TOGETHER])


def write_weights(weights: Weights, folder: Path, form: Format) -> None:
    """One safetensors file, tensors in the type they have."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / f"{form.stem}.safetensors", weights.tensors, {"format": "pt"})


def _named(name: str, form: Format) -> str:
    for rename in form.renames:
        name = re.sub(rename.theirs, rename.ours, name)
    return name


def _files(folder: Path, stem: str) -> list[Path]:
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


def fill(module: nn.Module, weights: Weights) -> None:
    """Give a network its tensors, which it then holds in the type they were stored in; it may have been built
    on "meta".

    Everything that does not agree is told in one ``DataError``.
    """
    if found := faults(module, weights.tensors):
        raise DataError(
            f"The weights in '{weights.folder}' do not fit its config.json: {found}. "
            "Take both files from the same model."
        )
    module.load_state_dict(dict(weights.tensors), assign=True)


def faults(module: nn.Module, given: Mapping[str, Tensor]) -> str:
    """What keeps tensors from being exactly those of a network, in words; empty if nothing does."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    told = [
        _count("missing", [name for name in wanted if name not in given]),
        _count("unknown", [name for name in given if name not in wanted]),
        _count(
            "misshapen",
            [
                f"{name} is {tuple(given[name].shape)} instead of {shape}"
                for name, shape in wanted.items()
                if name in given and tuple(given[name].shape) != shape
            ],
        ),
    ]
    return "; ".join(filter(None, told))


def _count(what: str, names: list[str]) -> str:
    rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{len(names)} {what} ({names[0]}{rest})" if names else ""
