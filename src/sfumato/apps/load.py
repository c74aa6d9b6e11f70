"""From a name or a folder to a system that is ready to serve requests."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato import config
from sfumato import device as devices
from sfumato.apps import facts
from sfumato.apps.settings import override
from sfumato.compat.pth import SUFFIXES, names_in
from sfumato.core.checkpoint import RunFolder
from sfumato.core.system import System
from sfumato.errors import DataError, UsageError, nearest
from sfumato.registry import SYSTEMS, find


def load(
    name_or_path: str | os.PathLike[str], *, precision: devices.Precision = "auto", device: str = "auto"
) -> System[Any]:
    """Build the system that a name or a folder stands for, with its weights, ready to run.

    A model that comes with the package (``"shapes"``), a run folder, a folder of diffusers
    (``model_index.json``) or of transformers (``config.json`` with ``architectures``), a public weight file
    of PyTorch (``latest_net_G.pth``) or a folder of such, or a system that needs no training of its own
    (``"gatys"``).
    Raises ``UsageError`` for unknown names and ``DataError`` for folders and files that cannot be used.
    """
    name = os.fspath(name_or_path)
    system = upon(name) if not Path(name).exists() and stands(name) else _from_folder(folder_of(name))
    return ready(system, precision=precision, device=device)


def ready(system: System[Any], *, precision: devices.Precision = "auto", device: str = "auto") -> System[Any]:
    """A system where it is to run, in the type in which it is to compute."""
    devices.setup()
    place = devices.pick(device)
    # At once, tensor by tensor, because every further pass would hold large models in memory twice.
    dtype = devices.dtype_of(precision, place)
    return system.eval().to(place, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


def stands(name: str) -> bool:
    """Whether a name is that of a system which uses another's networks as they are."""
    return name in SYSTEMS and bool(find(name, SYSTEMS, "system").stands_on)


def upon(
    name: str, base: str | os.PathLike[str] = "", settings: Sequence[str] = (), what: str = ""
) -> System[Any]:
    """A system upon another one's networks: those that come along, a run's, or a public weight file's.

    ``settings`` are its own, as on the command line of the command ``what``.
    """
    kind = find(name, SYSTEMS, "system")
    below = os.fspath(base) or _along(kind.stands_on)
    if Path(below).is_file():
        beneath = find(kind.stands_on, SYSTEMS, "system").from_file(Path(below))
    else:
        beneath = _from_folder(folder_of(below))
    system: System[Any] = kind(override(kind.suited(beneath), settings, what or name))
    system.adopt(beneath)
    return system


def _along(system: str) -> str:
    """Name of the first model of a system that comes with the package."""
    for name, folder in facts.models().items():
        if facts.read_config(folder)["system"] == system:
            return name
    raise UsageError(f"No {system} comes along; train one (sfumato train {system} --out RUN) and name it")


def folder_of(name_or_path: str | os.PathLike[str]) -> Path:
    """Where the model lies that a name or a path stands for; folders win over names.

    It is a folder, or a weight file; for a system that needs no training, the model it uses.
    """
    path, shipped = Path(name_or_path), facts.models()
    if path.is_dir() or (path.is_file() and path.suffix in SUFFIXES):
        return path
    name = os.fspath(name_or_path)
    if not path.exists() and stands(name):
        name = _along(find(name, SYSTEMS, "system").stands_on)
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
    if pipeline := pipeline_of(folder):
        return _from_diffusers(folder, pipeline)
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


def pipeline_of(folder: Path) -> str:
    """The class of diffusers or transformers whose folder this is; empty for any other place."""
    for name, key in (("model_index.json", "_class_name"), ("config.json", "architectures")):
        if not (folder / name).is_file():
            continue
        try:
            said = json.loads((folder / name).read_text(encoding="utf-8"))[key]
        except (ValueError, TypeError) as error:
            raise DataError(f"'{folder}/{name}' is not JSON ({error}); restore it") from error
        except KeyError:
            continue
        return str(said[0] if isinstance(said, list) and said else said)
    return ""


def _from_diffusers(folder: Path, pipeline: str) -> System[Any]:
    """The system whose ``pipelines`` names the class that wrote the folder."""
    known = {name: entry for entry in SYSTEMS for name in find(entry, SYSTEMS, "system").pipelines}
    if pipeline not in known:
        raise DataError(f"'{folder}' holds a {pipeline}, which sfumato cannot read{nearest(pipeline, known)}")
    return find(known[pipeline], SYSTEMS, "system").from_diffusers(folder)
