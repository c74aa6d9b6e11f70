"""Pictures in and out: files become tensors in [-1, 1], tensors become PNGs that know their settings."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from sfumato.errors import DataError, StorageError, UsageError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64_000_000
"""Most pixels of a picture we are willing to decode: about 250 MB of memory."""

_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow's readers raise on broken files; they share no base class."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How to undo each value of the EXIF tag Orientation."""
_ORIENTATION = 0x0112

_A1111 = {"steps": "Steps", "solver": "Sampler", "guidance": "CFG scale", "seed": "Seed", "model": "Model"}
"""Our settings under the names that stable-diffusion-webui's galleries look for."""


_OPENING = threading.Lock()
"""Pillow warns of large pictures by a filter that all threads share."""


class PictureError(DataError):
    """A picture that cannot be read, and why."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"Cannot read picture '{name}': {reason}.")
        self.reason = reason


File = str | os.PathLike[str] | IO[bytes] | io.BytesIO


def open_image(
    file: File,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = FORMATS,
    at_least: tuple[int, int] | None = None,
) -> Image.Image:
    """Read a picture as an upright RGB or grey (L) image, whatever the file holds.

    The first frame of an animation; transparency over white; CMYK, palette and 16-bit pictures converted;
    colours as sRGB means them, whatever profile the file carries. ``at_least`` (height, width) lets JPEG
    decode at a half, quarter or eighth of its size as long as both sides stay twice as large as asked:
    several times faster, hardly visible.
    Raises ``PictureError``, a ``DataError``, naming the file and the reason.
    """
    try:
        with _open(file, max_pixels, formats) as image:
            if at_least:
                image.draft(None, (2 * max(at_least), 2 * max(at_least)))
            image.load()
            turn = _UPRIGHT.get(_orientation(image))
    except _UNREADABLE as error:
        raise PictureError(_name(file), _reason(file, error)) from error
    plain = _plain(_to_srgb(image))
    return plain.transpose(turn) if turn is not None else plain


def measure(
    file: File, *, max_pixels: int = MAX_PIXELS, formats: Sequence[str] = FORMATS
) -> tuple[str, int, int]:
    """Read only the header of a picture: its format, height and width as stored.

    Raises ``PictureError`` as ``open_image`` does; a picture that passes may still turn out to be cut off.
    """
    try:
        with _open(file, max_pixels, formats) as image:
            return str(image.format), image.height, image.width
    except _UNREADABLE as error:
        raise PictureError(_name(file), _reason(file, error)) from error


def to_levels(image: Image.Image, channels: int = 3) -> UInt8[Tensor, "c h w"]:
    """Grey levels 0 to 255 of a picture with 3 channels (RGB) or 1 (grey): for keeping many in memory."""
    if channels not in (1, 3):
        raise UsageError(f"A picture has 1 or 3 channels, not {channels}; choose one of these.")
    levels = np.array(image.convert("RGB" if channels == 3 else "L"))
    return torch.from_numpy(levels.reshape(image.height, image.width, channels)).permute(2, 0, 1).contiguous()


def from_levels(levels: UInt8[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h w"]:
    """Scale grey levels 0 to 255 to [-1, 1]."""
    return levels.float().div_(127.5).sub_(1)


def to_tensor(image: Image.Image, channels: int = 3) -> Float[Tensor, "c h w"]:
    """Turn a picture into numbers in [-1, 1]; ``to_pil`` gives back exactly the same picture."""
    return from_levels(to_levels(image, channels))


def to_pil(x: Float[Tensor, "c h w"]) -> Image.Image:
    """Turn numbers in [-1, 1] into a picture, grey or RGB by its channels; what lies outside is cut."""
    if x.shape[0] not in (1, 3):
        raise UsageError(f"A picture has 1 or 3 channels, not {x.shape[0]}; choose one of these.")
    x = x.detach().float().cpu()
    if not bool(torch.isfinite(x).all()):
        raise DataError("The picture holds NaN or infinity; try --precision fp32 or less guidance.")
    levels = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(levels[:, :, 0] if levels.shape[2] == 1 else levels))


def fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """Scale and centre-crop a picture to a size, with Pillow's antialiased bicubic filter."""
    if image.size == (width, height):
        return image
    return ImageOps.fit(image, (width, height), method=Image.Resampling.BICUBIC)


def cover(image: Image.Image, height: int, width: int) -> Image.Image:
    """Scale a picture until it just covers a size, the longer side rounded down, and cut out the middle.

    CLIP's preparation; ``fit`` cuts before it scales.
    """
    scale = max(height / image.height, width / image.width)
    larger = (max(width, int(image.width * scale + 1e-6)), max(height, int(image.height * scale + 1e-6)))
    left, top = (larger[0] - width) // 2, (larger[1] - height) // 2
    box = (left, top, left + width, top + height)
    return image.resize(larger, Image.Resampling.BICUBIC).crop(box)


def grid(pixels: Float[Tensor, "n c h w"], columns: int | None = None, pad: int = 2) -> Image.Image:
    """Lay pictures out in rows on white; a square or nearly so unless ``columns`` is given."""
    count, channels, height, width = pixels.shape
    if not count or (columns is not None and columns < 1):
        raise UsageError(
            f"Cannot lay out {count} pictures in {columns} columns; give at least one picture and one column."
        )
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    size = (columns * (width + pad) + pad, math.ceil(count / columns) * (height + pad) + pad)
    sheet = Image.new("RGB" if channels == 3 else "L", size, "white")
    for i, x in enumerate(pixels):
        row, column = divmod(i, columns)
        sheet.paste(to_pil(x), (pad + column * (width + pad), pad + row * (height + pad)))
    return sheet


def save_png(
    image: Image.Image, path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None
) -> None:
    """Write a PNG with the settings that made it: written aside and renamed, so never half a file.

    The settings stand as JSON in the text chunk ``sfumato`` (``read_settings`` gives them back) and, for
    other programs' galleries, in ``parameters`` in stable-diffusion-webui's form. ``None`` writes neither.
    Raises ``StorageError`` if the disk is full or cannot be written.
    """
    info = PngImagePlugin.PngInfo()
    if settings is not None:
        info.add_itxt("sfumato", json.dumps(dict(settings)))
        info.add_text("parameters", _parameters(settings))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    save_bytes(buffer.getvalue(), path)


def save_bytes(data: bytes, path: str | os.PathLike[str]) -> None:
    """Write a picture's file aside and rename it, so that it is never half there.

    Raises ``StorageError`` if the disk is full or cannot be written.
    """
    path = Path(path)
    aside = path.with_name(f".{os.getpid()}-{threading.get_ident()}{path.suffix}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        os.replace(aside, path)
    except OSError as error:
        _forget(aside)
        raise StorageError(
            f"Cannot write picture '{path}': {error.strerror}; free some space or choose another folder."
        ) from error


def gif(
    frames: Float[Tensor, "f c h w"], rate: float = 12.0, settings: Mapping[str, Any] | None = None
) -> bytes:
    """Moving pictures as an endless GIF; the settings stand as JSON in its comment."""
    first, *others = [to_pil(frame).convert("RGB") for frame in frames]
    buffer = io.BytesIO()
    duration = max(20, round(1000 / rate / 10) * 10)  # hundredths of a second; viewers slow down below two
    comment = {} if settings is None else {"comment": json.dumps(dict(settings)).encode()}
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=duration, loop=0, **comment)
    return buffer.getvalue()


def enlarged(pixels: Float[Tensor, "*n c h w"], side: int = 128) -> Float[Tensor, "*n c i j"]:
    """Whole copies of pixels until the shorter side has ``side`` of them, so that small pictures are seen."""
    times = max(1, math.ceil(side / min(pixels.shape[-2:])))
    return pixels.repeat_interleave(times, -2).repeat_interleave(times, -1)


def gif_tag(frames: Float[Tensor, "f c h w"], rate: float = 12.0) -> str:
    """Moving pictures as HTML that needs no other file: what a notebook shows."""
    data = base64.b64encode(gif(enlarged(frames), rate)).decode()
    return f'<img alt="{len(frames)} frames" src="data:image/gif;base64,{data}">'


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read back the settings that ``save_png`` wrote into a PNG."""
    try:
        with _open(path, MAX_PIXELS, ("PNG",)) as image:
            image.load()
            text = image.info.get("sfumato")
    except _UNREADABLE as error:
        raise PictureError(_name(path), _reason(path, error)) from error
    if text is None:
        raise DataError(f"'{path}' holds no settings of sfumato; give a PNG as sfumato wrote it.")
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"The settings in '{path}' are damaged ({error}); give another picture.") from error
    if not isinstance(settings, dict):
        raise DataError(f"The settings in '{path}' are damaged (not an object); give another picture.")
    return settings


def _open(file: File, max_pixels: int, formats: Sequence[str]) -> Image.Image:
    """Open, looking at the size before anything is decoded; the error is ours, not a warning of Pillow's."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(file, formats=tuple(formats))
    if image.width * image.height > max_pixels:
        image.close()
        raise Image.DecompressionBombError(
            f"{image.width} x {image.height} pixels are more than the {max_pixels:,} allowed; scale it down"
        )
    return image


def _orientation(image: Image.Image) -> int:
    """How the camera was held, 1 to 8; 1, upright, where the file does not say so legibly."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _UNREADABLE:
        return 1
    return value if isinstance(value, int) else 1


_BARE = {"P": "RGB", "PA": "RGB", "RGBA": "RGB", "RGBa": "RGB", "LA": "L", "La": "L"}
"""The colours alone of modes that may be transparent."""


def _to_srgb(image: Image.Image) -> Image.Image:
    """Colours of the file's own profile as sRGB has them; profiles that cannot be used are ignored."""
    embedded = image.info.get("icc_profile")
    if not embedded or image.mode.startswith(("I", "1")):
        return image
    colours = image.convert(_BARE.get(image.mode, image.mode))
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return image
        srgb = ImageCms.createProfile("sRGB")
        precise = ImageCms.Flags.HIGHRESPRECALC
        out = ImageCms.profileToProfile(colours, profile, srgb, outputMode="RGB", flags=precise)
    except (OSError, ImageCms.PyCMSError):  # damaged, or meant for another mode
        return image
    assert out is not None  # it was not converted in place
    out = out.convert("L") if colours.mode == "L" else out
    if image.has_transparency_data:
        out.putalpha(image.convert("RGBA").getchannel("A"))
    return out


def _plain(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB or L, transparency over white."""
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        white = Image.new("RGBA", clear.size, "white")
        return Image.alpha_composite(white, clear).convert("L" if grey else "RGB")
    return image.convert("L" if grey else "RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; Pillow's own conversion cuts everything above 255 to white."""
    values = np.asarray(image).astype(np.int64)
    levels = (values.clip(0, 65535) + 128) // 257
    if isinstance(clear := image.info.get("transparency"), int):
        levels[values == clear] = 255
    return Image.fromarray(levels.astype(np.uint8))


def _name(file: File) -> str:
    if isinstance(file, (str, os.PathLike)):
        return os.fspath(file)
    return str(getattr(file, "name", "uploaded file"))


def _reason(file: File, error: BaseException) -> str:
    """Say in plain words why a picture cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.DecompressionBombError):
        return str(error) if "allowed" in str(error) else "its size makes it a decompression bomb"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if not (head := _head(file)):
        return "the file is empty"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "it is a web page or other markup, not a picture"
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(FORMATS)}, or its header is damaged"
    text = " ".join(str(error).split())
    return text or type(error).__name__


def _head(file: File) -> bytes:
    """Read the first bytes of a file, for a better reason."""
    try:
        if isinstance(file, (str, os.PathLike)):
            with open(file, "rb") as stream:
                return stream.read(64)
        file.seek(0)
        return file.read(64)
    except (OSError, ValueError):
        return b"unknown"


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _parameters(settings: Mapping[str, Any]) -> str:
    """Write settings as stable-diffusion-webui does: prompt, negative prompt, one line of ``Key: value``."""
    lines = [_legible(settings.get("prompt") or "")]
    if settings.get("negative"):
        lines.append("Negative prompt: " + _legible(settings["negative"]))
    pairs = {label: settings[key] for key, label in _A1111.items() if settings.get(key) is not None}
    if settings.get("width") and settings.get("height"):
        pairs["Size"] = f"{settings['width']}x{settings['height']}"
    lines.append(", ".join(f"{label}: {_quoted(_legible(value))}" for label, value in pairs.items()))
    return "\n".join(lines)


def _legible(value: Any) -> str:
    """Text that every reader of PNGs can hold: no NUL, no halves of characters."""
    return str(value).replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if set(text) & set(",:\n") else text
