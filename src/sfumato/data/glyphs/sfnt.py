"""Which characters a font file says it has: the table "cmap" of TrueType and OpenType, nothing else.

Microsoft and Apple: OpenType specification, chapters "Organization of an OpenType font" and "cmap".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

PREFERRED = ((3, 10), (0, 6), (0, 4), (3, 1), (0, 3), (0, 2), (0, 1), (0, 0))
"""(Platform, encoding) of Unicode subtables, those that know most characters first."""
MOST = 0x110000
"""One more than the last character of Unicode."""


def characters_of(data: bytes, face: int = 0) -> frozenset[int] | None:
    """The characters with a glyph in a face of a font file; None where the file has no table we can read."""
    try:
        return _characters(data, face)
    except (struct.error, IndexError, ValueError):
        return None


def _characters(data: bytes, face: int) -> frozenset[int] | None:
    start = 0
    if data[:4] == b"ttcf":
        start = struct.unpack_from(">I", data, 12 + 4 * face)[0]
    count = struct.unpack_from(">H", data, start + 4)[0]
    tables = (struct.unpack_from(">4sIII", data, start + 12 + 16 * k) for k in range(count))
    cmap = next((offset for tag, _, offset, _ in tables if tag == b"cmap"), None)
    if cmap is None:
        return None
    entries = struct.unpack_from(">H", data, cmap + 2)[0]
    subtables = {}
    for k in range(entries):
        platform, encoding, offset = struct.unpack_from(">HHI", data, cmap + 4 + 8 * k)
        subtables[platform, encoding] = cmap + offset
    for kind in PREFERRED:
        if kind in subtables:
            at = subtables[kind]
            read = _FORMATS.get(struct.unpack_from(">H", data, at)[0])
            if read is not None:
                return frozenset(read(data, at))
    return None


def _segments(data: bytes, at: int) -> Iterator[int]:
    """Format 4: ranges of 16-bit characters, their glyphs by offset or by list."""
    segments = struct.unpack_from(">H", data, at + 6)[0] // 2
    words = f">{segments}H"
    ends = struct.unpack_from(words, data, at + 14)
    starts = struct.unpack_from(words, data, at + 16 + 2 * segments)
    deltas = struct.unpack_from(words, data, at + 16 + 4 * segments)
    ranges_at = at + 16 + 6 * segments
    ranges = struct.unpack_from(words, data, ranges_at)
    for k, (first, last, delta, offset) in enumerate(zip(starts, ends, deltas, ranges, strict=True)):
        for character in range(first, last + 1):
            if offset:
                place = ranges_at + 2 * k + offset + 2 * (character - first)
                listed = struct.unpack_from(">H", data, place)[0]
                glyph = (listed + delta) % 65536 if listed else 0
            else:
                glyph = (character + delta) % 65536
            if glyph:
                yield character


def _trimmed(data: bytes, at: int) -> Iterator[int]:
    """Format 6: one range with a list."""
    first, count = struct.unpack_from(">HH", data, at + 6)
    for k, glyph in enumerate(struct.unpack_from(f">{count}H", data, at + 10)):
        if glyph:
            yield first + k


def _groups(data: bytes, at: int) -> Iterator[int]:
    """Format 12: ranges of 32-bit characters."""
    count = struct.unpack_from(">I", data, at + 12)[0]
    for k in range(count):
        first, last, glyph = struct.unpack_from(">III", data, at + 16 + 12 * k)
        if not first <= last < MOST:
            raise ValueError("a group that ends before it begins")
        yield from range(first + (glyph == 0), last + 1)


_FORMATS = {4: _segments, 6: _trimmed, 12: _groups}
