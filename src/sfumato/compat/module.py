"""Modules that PyTorch pickled whole (``torch.save(module, "x.pkl")``): their tensors, without their code.

Such a file names the classes of its objects; loading it would import and run them, and
``torch.load(weights_only=True)`` refuses it. Here names are resolved to tensors, plain containers and inert
records alone.
"""

from __future__ import annotations

import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.compat.persistent import SUFFIX, Record, inert
from sfumato.compat.torchscript import archived_tensor, described_in, is_script
from sfumato.errors import DataError


def is_module(path: Path) -> bool:
    """Whether a ``.pkl`` is an archive of PyTorch's."""
    return path.suffix == SUFFIX and zipfile.is_zipfile(path) and not is_script(path)


def read_module(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of the module, by the names its ``state_dict`` has.

    A damaged archive, or one that holds no tensors, is a ``DataError``.
    """
    held = described_in(path, _named, "module of PyTorch")
    tensors = held.tensors() if isinstance(held, Record) else {}
    if not tensors:
        raise DataError(f"'{path}' holds no tensors; give the file with the weights of a network.")
    return tensors


def _named(module: str, name: str) -> Any:
    return _KNOWN.get((module, name)) or inert(f"{module}.{name}")


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


_KNOWN: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): archived_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
