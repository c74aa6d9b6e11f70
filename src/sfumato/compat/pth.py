"""Weight files (``.pth``, ``.pt``, ``.pkl``, ``.safetensors``): tensors by name; no code in them is run."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from sfumato.compat.module import is_module, read_module
from sfumato.compat.persistent import SUFFIX, read_records
from sfumato.compat.torchscript import is_script, read_script
from sfumato.errors import DataError

SAFE = ".safetensors"
SUFFIXES = (".pth", ".pt", ".tar", SUFFIX, SAFE)
"""``.tar`` as in ``decoder_iter_160000.pth.tar``: no archive, but what PyTorch saves."""
PARALLEL = "module."
"""What ``DataParallel`` puts before every name."""


def names_in(path: Path) -> Set[str]:
    """Names of the tensors of a file, without the tensors where that is possible."""
    if path.suffix != SAFE:
        return read_pth(path).keys()
    try:
        with safe_open(path, framework="pt") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise DataError(f"'{path}' is damaged or incomplete ({error}); fetch it again.") from error


def read_pth(path: Path) -> dict[str, Tensor]:
    """All tensors of a file; those of mappings within mappings are named ``outer/inner``.

    Of NVIDIA's pickles, the tensors of every network; of modules saved whole, in a pickle or as TorchScript,
    those of the module. Raises ``DataError`` if the file is damaged, holds more than tensors and plain
    values, or no tensors.
    """
    if is_module(path):
        return read_module(path)
    if path.suffix == SUFFIX:
        records = read_records(path)
        return {name: t for key, record in records.items() for name, t in record.tensors(f"{key}/").items()}
    if is_script(path):
        return read_script(path)
    if path.suffix == SAFE:
        names_in(path)
        return load_file(path)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"'{path}' is damaged, or holds more than tensors and would run code when it is read; "
            "fetch it again, or save its state_dict alone."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).split("\n")[0]
        raise DataError(f"'{path}' is no weight file of PyTorch ({reason}); fetch it again.") from error
    tensors = _flat(held, "")
    if not tensors:
        raise DataError(f"'{path}' holds no tensors; give the file with the weights of a network.")
    if all(name.startswith(PARALLEL) for name in tensors):
        return {name.removeprefix(PARALLEL): tensor for name, tensor in tensors.items()}
    return tensors


def _flat(held: Any, prefix: str) -> dict[str, Tensor]:
    if isinstance(held, Tensor):
        return {prefix.removesuffix("/"): held}
    if not isinstance(held, Mapping):
        return {}
    return {n: t for key, value in held.items() for n, t in _flat(value, f"{prefix}{key}/").items()}
