"""Writing so that a crash leaves the old file or the new one, never half of either."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import safetensors
from safetensors.torch import save_file
from torch import Tensor

from sfumato.errors import BusyError, StorageError

T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
POLL = 0.1
"""Seconds between looks at the stop flag while waiting for space."""


def fault(name: str) -> None:
    """A place where tests kill the process: ``SFUMATO_FAULT=name`` dies here as by ``kill -9``."""
    if os.environ.get("SFUMATO_FAULT") == name:
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that becomes ``path`` at once when all went well, and leaves nothing otherwise."""
    aside = path.with_name(path.name + ".tmp")
    try:
        with guarded(path), aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    os.replace(aside, path)
    sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` at once."""
    with replacing(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace ``path`` by ``value`` at once."""
    write_text(path, _json(value))


def write_part(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file of a folder that is itself written aside, brought to the disk and renamed."""
    _write(path, _json(value))


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=1) + "\n"


def _write(path: Path, text: str) -> None:
    with guarded(path), path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file and bring it to the disk; the caller renames it into place."""
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        if tensor.numel() and tensor.data_ptr() in seen:  # Tied weights: safetensors keeps no ties.
            tensor = tensor.clone()
        seen.add(tensor.data_ptr())
        own[name] = tensor
    with guarded(path):
        save_file(own, path, metadata=metadata)
    sync(path)


def hold(path: Path, what: str) -> int:
    """Lock a file until its handle is closed or the process ends, however it ends.

    Raises ``BusyError`` that names the process which holds ``what``.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(handle, 32).decode().strip() or "unknown"
        os.close(handle)
        raise BusyError(f"{what} is in use by pid {owner}; wait for it, or choose another folder.") from error
    os.ftruncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle


class guarded:
    """Turns "no space left" into a ``StorageError`` that names the file and leaves no part of it."""

    def __init__(self, path: Path):
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        code = _errno(error)
        if code in FULL:
            reason = os.strerror(code)
            raise StorageError(
                f"Cannot write {self.path}: {reason}. Free some space; what was saved before is whole."
            ) from error


def _errno(error: BaseException | None) -> int:
    if isinstance(error, OSError):
        return error.errno or 0
    if isinstance(error, safetensors.SafetensorError):  # It tells the number only in its text.
        found = re.search(r"os error (\d+)", str(error))
        return int(found[1]) if found else 0
    return 0


def sync(path: Path) -> None:
    """Bring a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def need_space(folder: Path, needed: int) -> None:
    """Raise a ``StorageError`` if ``folder`` has less than ``needed`` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"Saving into {folder} needs {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free. "
            "Free some space; what was saved before is whole."
        )


def patiently(action: Callable[[], T], *, patience: float, every: float, stop: Callable[[], bool]) -> T:
    """Do ``action``; on a full disk again ``every`` seconds, until ``patience`` ends or ``stop``."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return action()
        except StorageError:
            again = time.monotonic() + every
            if again > deadline or stop():
                raise
        while time.monotonic() < again and not stop():
            time.sleep(POLL)
