"""From a name or a folder to a system that is ready to serve requests."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato import config
from sfumato import device as devices
from sfumato.apps import facts
from sfumato.compat.pth import SUFFIXES, names_in
from sfumato.core.checkpoint import RunFolder
from sfumato.core.system import System
from sfumato.errors import DataError, UsageError, nearest
from sfumato.registry import SYSTEMS, find


def load(
    name_or_path: str | os.PathLike[str], *, precision: devices.Precision = "auto", device: str = "auto"
) -> System[Any]:
    """Build the system that a name or a folder stands for, with its weights, ready to run.

    A model that comes with the package (``"shapes"``), a run folder, a diffusers folder
    (``model_index.json``), or a public weight file of PyTorch (``latest_net_G.pth``) or a folder of such.
    Raises ``UsageError`` for unknown names and ``DataError`` for folders and files that cannot be used.
    """
    devices.setup()
    place = devices.pick(device)
    system = _from_folder(folder_of(name_or_path)).eval()
    # At once, tensor by tensor, because every further pass would hold large models in memory twice.
    dtype = devices.dtype_of(precision, place)
    return system.to(place, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


def folder_of(name_or_path: str | os.PathLike[str]) -> Path:
    """Where the model lies that a name or a path stands for; folders win over names.

    It is a folder, or a weight file.
    """
    path, shipped = Path(name_or_path), facts.models()
    if path.is_dir() or (path.is_file() and path.suffix in SUFFIXES):
        return path
    name = os.fspath(name_or_path)
    if name in shipped:
        return shipped[name]
    if path.exists():
        raise DataError(
            f"'{name}' is a file; give the folder of a run, a diffusers folder, "
            f"or a weight file ({', '.join(SUFFIXES)})"
        )
    choice = nearest(name, shipped) if shipped else ""
    raise UsageError(f"There is no model or folder '{name}'{choice}; 'sfumato list' shows models and runs")


def _from_folder(folder: Path) -> System[Any]:
    if (folder / "model_index.json").exists():
        return _from_diffusers(folder)
    if files := weight_files(folder):
        return _from_files(folder, files)
    run = RunFolder.open(folder)
    recipe = run.recipe
    kind = find(recipe.system, SYSTEMS, "system")
    system: System[Any] = kind(config.from_dict(kind.Config, recipe.config))
    fill(system, run.read_model(), folder)
    return system


def fill(system: System[Any], given: Mapping[str, Tensor], folder: Path) -> None:
    """Give a system its tensors; all must fit, or one ``DataError`` says which do not."""
    wanted = system.state_dict()
    faults = [
        _fault("missing", [name for name in wanted if name not in given]),
        _fault("unknown", [name for name in given if name not in wanted]),
        _fault(
            "of another shape", [_shapes(n, given[n], wanted[n]) for n in wanted if _differ(n, given, wanted)]
        ),
    ]
    if any(faults):
        raise DataError(
            f"The weights in '{folder}' do not fit its config.json: {'; '.join(filter(None, faults))}"
        )
    system.load_state_dict(dict(given))


def _differ(name: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    return name in given and given[name].shape != wanted[name].shape


def _shapes(name: str, given: Tensor, wanted: Tensor) -> str:
    return f"{name} {tuple(given.shape)} instead of {tuple(wanted.shape)}"


def _fault(what: str, names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{len(names)} tensors {what} ({names[0]}{more})" if names else ""


def weight_files(path: Path) -> list[Path]:
    """The file itself, or the weight files of PyTorch in a folder that is no run."""
    if path.is_file():
        return [path]
    if (path / "config.json").exists():
        return []
    return sorted(file for file in path.glob("*") if file.suffix in SUFFIXES)


def _from_files(path: Path, files: list[Path]) -> System[Any]:
    """The system that knows the tensors of the first file that any knows."""
    for file in files:
        names = names_in(file)
        for entry in SYSTEMS:
            kind = find(entry, SYSTEMS, "system")
            if kind.published & names:
                return kind.from_file(path)
    readers = ", ".join(entry for entry in SYSTEMS if find(entry, SYSTEMS, "system").published)
    raise DataError(f"No system knows the tensors in '{path}'; those with public files are {readers}")


def _from_diffusers(folder: Path) -> System[Any]:
    """The system whose ``pipelines`` names the class that wrote the folder."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"'{folder}/model_index.json' is not JSON ({error}); restore it") from error
    pipeline = str(index.get("_class_name"))
    known = {name: entry for entry in SYSTEMS for name in find(entry, SYSTEMS, "system").pipelines}
    if pipeline not in known:
        raise DataError(f"'{folder}' holds a {pipeline}, which sfumato cannot read{nearest(pipeline, known)}")
    return find(known[pipeline], SYSTEMS, "system").from_diffusers(folder)
