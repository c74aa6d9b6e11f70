"""NVIDIA's pickles (``.pkl`` of StyleGAN 2-ADA) read without running anything that stands in them.

Such a file names classes, holds their source code, and the state of their objects. Here a name that is not
on a short list of names for tensors and plain containers becomes an inert record, and code stays a string.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sfumato.errors import DataError

SUFFIX = ".pkl"


class Record:
    """What stands in place of any object of the file: its name and its state."""

    name = ""
    state: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *_: Any):
        """What it was made from is not kept."""

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, Mapping) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        """Items of a container that nobody here needs."""

    def append(self, item: Any) -> None:
        """Likewise."""

    def extend(self, items: Any) -> None:
        """Likewise."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The keywords that the object was made from."""
        found = self.state.get("_init_kwargs", {})
        return found if isinstance(found, Mapping) else {}

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """Parameters and buffers by the names that the module gave them."""
        found: dict[str, Tensor] = {}
        for kind in ("_parameters", "_buffers"):
            held = self.state.get(kind) or {}
            found |= {f"{prefix}{name}": t for name, t in held.items() if isinstance(t, Tensor)}
        for name, module in (self.state.get("_modules") or {}).items():
            if isinstance(module, Record):
                found |= module.tensors(f"{prefix}{name}.")
        return found


def read_records(path: Path) -> dict[str, Record]:
    """The networks of a file by name (``G``, ``D``, ``G_ema``); a ``DataError`` if there are none."""
    try:
        with path.open("rb") as file:
            held = _Reader(file).load()
    except (OSError, EOFError, pickle.UnpicklingError, RuntimeError, AttributeError, ValueError,
            KeyError, IndexError, TypeError, UnicodeDecodeError) as error:  # fmt: skip
        reason = str(error).split("\n")[0]
        raise DataError(f"'{path}' is no pickle of StyleGAN 2-ADA ({reason}); fetch it again.") from error
    records = {k: v for k, v in held.items() if isinstance(v, Record)} if isinstance(held, Mapping) else {}
    found = {str(name): record for name, record in records.items() if record.tensors()}
    if not found:
        raise DataError(
            f"'{path}' holds no networks; give a pickle as stylegan2-ada-pytorch writes it "
            "(those of TensorFlow must be converted there first)."
        )
    return found


class _Reader(pickle.Unpickler):
    """Resolves no name but those of ``_KNOWN``, and imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name)) or inert(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"it refers to something outside, {pid!r}")


def inert(name: str) -> Callable[..., Record]:
    """A class whose objects do nothing but remember their state."""

    return type("Inert", (Record,), {"name": name})


def _persistent(meta: Any) -> Record:
    """An object of torch_utils.persistence: its class is a name, its module's source is left alone."""
    if not isinstance(meta, Mapping):
        raise pickle.UnpicklingError("an object without a description")
    record = Record()
    record.__setstate__(meta.get("state"))
    return record


def _storage(data: Any) -> Any:
    """Numbers that ``torch.save`` wrote into the pickle."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    tensor: Tensor = torch._utils._rebuild_tensor(storage, offset, size, stride)
    return tensor


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


class _Settings(dict[str, Any]):
    """dnnlib's EasyDict, without its easy part."""


_KNOWN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("dnnlib.util", "EasyDict"): _Settings,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
