"""TorchScript archives (``torch.jit.save``): their tensors by name, without running the code they hold.

``torch.jit.load`` compiles and runs what is in the archive, and ``torch.load(weights_only=True)`` refuses it.
Here the description of its objects is read with names resolved to tensors, plain containers and inert
records; the code in the archive is never looked at.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.errors import DataError

DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_script(path: Path) -> bool:
    """Whether a file is an archive with code in it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2] == "constants.pkl" for name in archive.namelist())


def described_in(path: Path, named: Callable[[str, str], Any], what: str) -> Any:
    """The object that an archive of PyTorch's describes, with the classes that ``named`` gives for theirs.

    Raises ``DataError`` if the archive is damaged or no ``what``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            [described] = [n for n in archive.namelist() if n.partition("/")[2] == "data.pkl"]
            return Archived(archive, described, named).load()
    except (OSError, EOFError, zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, AttributeError,
            ValueError, KeyError, IndexError, TypeError) as error:  # fmt: skip
        reason = str(error).split("\n")[0]
        raise DataError(f"'{path}' is no whole {what} ({reason}); fetch it again.") from error


def read_script(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers of the archive's module, as its ``state_dict`` would name them.

    A damaged archive, or one that holds no tensors, is a ``DataError``.
    """
    held = described_in(path, _named, "TorchScript archive")
    tensors = held.tensors("") if isinstance(held, _Module) else {}
    if not tensors:
        raise DataError(f"'{path}' holds no tensors; give the file with the weights of a network.")
    return tensors


class _Module:
    """What stands in place of any object of the archive: its attributes."""

    def __init__(self, *_: Any):
        """What it was made from is not kept."""
        self.state: Mapping[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, Mapping) else {}

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, value in self.state.items():
            if isinstance(value, Tensor):
                found[f"{prefix}{name}"] = value
            elif isinstance(value, _Module):
                found |= value.tensors(f"{prefix}{name}.")
        return found


class Archived(pickle.Unpickler):
    """What an archive describes, with storages from the archive and every other name from ``named``."""

    def __init__(self, archive: zipfile.ZipFile, described: str, named: Callable[[str, str], Any]):
        super().__init__(io.BytesIO(archive.read(described)))
        self._archive, self._root, self._named = archive, described.removesuffix("data.pkl"), named
        self._storages: dict[str, torch.UntypedStorage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        return self._named(module, name)

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, count = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"it refers to something outside, {pid!r}")
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._root}data/{key}"))
            if len(data) < count * dtype.itemsize:
                raise pickle.UnpicklingError(f"its tensor {key} is cut off")
            self._storages[key] = torch.frombuffer(data, dtype=torch.uint8).untyped_storage()
        return dtype, self._storages[key]


def _named(module: str, name: str) -> Any:
    """Tensors, plain containers and inert modules; any other name is refused, and nothing is imported."""
    if module == "__torch__" or module.startswith("__torch__."):
        return type("Inert", (_Module,), {})
    if (module, name) in _KNOWN:
        return _KNOWN[module, name]
    raise pickle.UnpicklingError(f"it names {module}.{name}, which no module of networks needs")


def archived_tensor(held: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor of a storage of the archive."""
    dtype, storage = held
    return torch.empty(0, dtype=dtype).set_(storage, offset, tuple(size), tuple(stride))


def _same(value: Any, *_: Any) -> Any:
    return value


_KNOWN: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): archived_tensor,
    ("torch.jit._pickle", "restore_type_tag"): _same,
    **{("torch.jit._pickle", f"build_{kind}list"): _same for kind in ("int", "double", "bool", "tensor")},
}
