"""Pictures as the JPEG files of a data set: kept as they are where possible, without what cameras note."""

from __future__ import annotations

import io
import struct

from PIL import Image

from sfumato.errors import UsageError
from sfumato.images import MAX_PIXELS, measure, open_image

QUALITY = 95
"""Of what is encoded anew, without thinning out colours."""
_START, _SCAN = b"\xff\xd8", 0xDA
_ALONE = (0x01, *range(0xD0, 0xD9))
"""Markers without a length."""
_NOTES = (*range(0xE1, 0xF0), 0xFE)
"""APP1 (Exif with place and camera, XMP) to APP15, and comments."""
_PROFILE, _ADOBE = (0xE2, b"ICC_PROFILE\0"), (0xEE, b"Adobe")
"""Notes without which colours would be other ones."""
_ORIENTED = b"Exif\0\0"


def as_jpeg(data: bytes, size: int | None = None, max_pixels: int = MAX_PIXELS) -> tuple[bytes, int, int]:
    """A picture's file as JPEG without notes, its height and its width.

    An upright JPEG stays as it is but for its notes, unless ``size`` is smaller than its shorter side, which
    is then made ``size`` by Pillow's antialiased bicubic filter. Raises ``PictureError`` as ``open_image``.
    """
    if size is not None and size < 1:
        raise UsageError(f"Pictures have at least 1 pixel a side, not {size}; give another --size.")
    kind, height, width = measure(io.BytesIO(data), max_pixels=max_pixels)
    if kind == "JPEG" and (size is None or size >= min(height, width)):
        plain = without_notes(data)
        if plain is not None:
            return plain, height, width
    image = open_image(io.BytesIO(data), max_pixels=max_pixels).convert("RGB")
    if size is not None and size < min(image.size):
        scale = size / min(image.size)
        shape = (max(size, round(image.width * scale)), max(size, round(image.height * scale)))
        image = image.resize(shape, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue(), image.height, image.width


def without_notes(data: bytes) -> bytes | None:
    """A JPEG file without Exif, comments and the like, its picture untouched.

    None if it must be turned to stand upright, or if its segments cannot be followed.
    """
    if not data.startswith(_START):
        return None
    kept, place = [_START], len(_START)
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            place += 1
            continue
        if marker in _ALONE:
            return None
        if marker == _SCAN:
            return b"".join(kept) + data[place:]
        (length,) = struct.unpack(">H", data[place + 2 : place + 4])
        segment = data[place : place + 2 + length]
        if length < 2 or len(segment) < 2 + length:
            return None
        if marker == 0xE1 and segment[4:].startswith(_ORIENTED) and _turned(data):
            return None
        if marker not in _NOTES or _needed(marker, segment[4:]):
            kept.append(segment)
        place += 2 + length
    return None


def _needed(marker: int, content: bytes) -> bool:
    return any(marker == known and content.startswith(start) for known, start in (_PROFILE, _ADOBE))


def _turned(data: bytes) -> bool:
    """Whether Exif tells to turn the picture."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return image.getexif().get(0x0112, 1) != 1
