"""Where the members of a tar file stand: a reader of headers, several times as fast as Python's own."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sfumato.errors import DataError

BLOCK = 512
_NAME, _SIZE, _CHECK, _KIND, _MAGIC, _PREFIX = (
    slice(0, 100), slice(124, 136), slice(148, 156), 156, slice(257, 262), slice(345, 500),
)  # fmt: skip
_PLAIN = (b"0", b"\0", b"7")
_LONG_NAME, _FURTHER = b"L", b"x"
_BLANKS = 8 * ord(" ")
"""What the checksum counts in its own place."""


class Member(NamedTuple):
    """A plain file within a tar."""

    name: str
    start: int
    bytes: int


def members(path: Path) -> Iterator[tuple[Member, memoryview]]:
    """The plain files of a tar (POSIX ustar, pax or GNU) with their contents, in their order.

    Links, devices and folders are passed over. The views are good until the next is asked for. Raises
    ``DataError`` if a header is damaged or the file ends before its end mark.
    """
    try:
        size = path.stat().st_size
        if not size:
            raise ValueError("it is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield from _members(data, size)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"Shard '{path}' is damaged ({reason}); curate or fetch it again.") from error


def _members(data: mmap.mmap, size: int) -> Iterator[tuple[Member, memoryview]]:
    place, further = 0, dict[str, str]()
    while True:
        header = data[place : place + BLOCK]
        if len(header) < BLOCK:
            raise ValueError("it is cut off")
        if not header.strip(b"\0"):
            return
        if sum(header) - sum(header[_CHECK]) + _BLANKS != _number(header[_CHECK]):
            raise ValueError(f"wrong checksum at byte {place:,}")
        kind, start = header[_KIND : _KIND + 1], place + BLOCK
        length = int(further.get("size", _number(header[_SIZE])))
        if start + length > size:
            raise ValueError("it is cut off")
        place = start + -(-length // BLOCK) * BLOCK
        if kind == _LONG_NAME:
            further["path"] = _text(data[start : start + length])
        elif kind == _FURTHER:
            further |= _pax(data[start : start + length])
        else:
            if kind in _PLAIN:
                with memoryview(data) as whole, whole[start : start + length] as part:
                    yield Member(str(further.get("path", _name(header))), start, length), part
            further = {}


def _name(header: bytes) -> str:
    name, prefix = _text(header[_NAME]), header[_PREFIX] if header[_MAGIC] == b"ustar" else b""
    return f"{_text(prefix)}/{name}" if prefix.strip(b"\0") else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace")


def _number(field: bytes) -> int:
    """Octal digits, or, with the first bit set, the number itself."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    return int(field.strip(b" \0") or b"0", 8)


def _pax(records: bytes) -> dict[str, str]:
    """The name and size of the next member, as "27 path=a/b.jpg" tells them."""
    told = re.findall(rb"\d+ (path|size)=([^\n]*)\n", records)
    return {key.decode(): value.decode("utf-8", "replace") for key, value in told}
