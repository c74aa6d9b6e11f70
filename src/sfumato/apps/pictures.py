"""Pictures as a person holds them: they show themselves in notebooks and know how they were made."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image
from jaxtyping import Float
from PIL.Image import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sfumato import images
from sfumato.core.result import Brief
from sfumato.errors import DataError, StorageError


@dataclass(frozen=True, repr=False)
class Pictures(Brief):
    """The answer to a request, one entry a picture."""

    pixels: Float[Tensor, "n c h w"]
    """In [-1, 1]."""
    seeds: tuple[int, ...]
    captions: tuple[str, ...]
    settings: tuple[Mapping[str, Any], ...] = field(repr=False)
    """What makes each picture again."""
    notes: tuple[str, ...] = ()
    """What the user should know: truncated prompts, ignored settings."""
    history: tuple[Float[Tensor, "n c i j"], ...] = field(default=(), repr=False)
    """What the pictures were believed to be on the way here, from noise on."""
    latents: Float[Tensor, "n ..."] | None = field(default=None, repr=False)
    """What they were made from, if that was asked for."""

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Image:
        return images.to_pil(self.pixels[index])

    def __iter__(self) -> Iterator[Image]:
        return (self[i] for i in range(len(self)))

    def pick(self, places: Sequence[int]) -> Pictures:
        """Those at some places alone, in that order."""
        each = ("seeds", "captions", "settings")
        rows = list(places)
        return dataclasses.replace(
            self,
            pixels=self.pixels[rows],
            history=tuple(moment[rows] for moment in self.history),
            latents=None if self.latents is None else self.latents[rows],
            **{name: tuple(getattr(self, name)[i] for i in rows) for name in each},
        )

    def grid(self, columns: int | None = None) -> Image:
        """All pictures in one."""
        return images.grid(self.pixels, columns)

    def save(self, folder: str | Path) -> list[Path]:
        """Write one PNG a picture, named by its seed and prompt, and ``grid.png``; return their paths.

        A file there that was made with other settings keeps its name; the new one gets a number.
        """
        folder = Path(folder)
        check_folder(folder)
        written = []
        for image, seed, caption, settings in zip(
            self, self.seeds, self.captions, self.settings, strict=True
        ):
            path = free(folder / f"{seed:06d}{slug(caption)}.png", settings)
            images.save_png(image, path, settings)
            written.append(path)
        if len(self) > 1:
            together = {"pictures": [path.name for path in written]} | shared(self.settings)
            path = free(folder / "grid.png", together)
            images.save_png(self.grid(), path, together)
            written.append(path)
        return written

    def _repr_png_(self) -> bytes:
        return png(self.grid())

    def _repr_html_(self) -> str:
        figures = (
            f'<figure style="display:inline-block;margin:4px;max-width:192px;font:12px sans-serif">'
            f'<img alt="{html.escape(caption)}" src="{data_url(image)}" width="192" '
            f'style="image-rendering:pixelated"><figcaption>{html.escape(caption)} (seed {seed})'
            f"</figcaption></figure>"
            for image, seed, caption in zip(self, self.seeds, self.captions, strict=True)
        )
        notes = "".join(f"<p>note: {html.escape(note)}</p>" for note in self.notes)
        return f"<div>{''.join(figures)}{notes}</div>"


def check_folder(folder: Path) -> None:
    """Raise ``StorageError`` if nothing can be written into a folder, which need not be there yet."""
    whole = folder.absolute()
    there = next(place for place in (whole, *whole.parents) if place.exists())
    if not there.is_dir():
        raise StorageError(f"Cannot write into '{folder}': '{there}' is a file; choose another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StorageError(f"Cannot write into '{folder}': '{there}' is closed to you; choose another folder")


def shared(settings: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
    """The settings on which all pictures agree."""
    first = settings[0]
    return {key: first[key] for key in first if all(other.get(key) == first[key] for other in settings)}


def free(path: Path, settings: Mapping[str, Any]) -> Path:
    """``path``, or ``path`` with a number if something made with other settings lies there."""
    return free_together([path], settings)[0]


def free_together(paths: Sequence[Path], settings: Mapping[str, Any]) -> list[Path]:
    """The same for files that belong together: all get the same number."""
    candidates, number = list(paths), 1
    while any(path.exists() and not _same(path, settings) for path in candidates):
        number += 1
        candidates = [path.with_name(f"{path.stem}-{number}{path.suffix}") for path in paths]
    return candidates


def _same(path: Path, settings: Mapping[str, Any]) -> bool:
    try:
        told = _TOLD[path.suffix](path) if path.suffix in _TOLD else None
    except (DataError, OSError, ValueError, SafetensorError):
        return False
    return told == plain(settings)


def _told_by_gif(path: Path) -> Any:
    with PIL.Image.open(path, formats=("GIF",)) as film:
        return json.loads(film.info.get("comment", b"null"))


def _told_by_safetensors(path: Path) -> Any:
    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get("sfumato", "null"))


def _told_by_mp4(path: Path) -> Any:
    try:
        import av
    except ImportError:
        return None
    with av.open(str(path)) as film:
        return json.loads(film.metadata.get("comment", "null"))


_TOLD = {
    ".png": images.read_settings,
    ".gif": _told_by_gif,
    ".mp4": _told_by_mp4,
    ".safetensors": _told_by_safetensors,
}
"""How to read what made a file; other kinds of file count as somebody else's."""


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON gives them back: tuples are lists."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def slug(caption: str, longest: int = 40) -> str:
    """A caption as part of a file name.

    >>> slug("A red circle, above!"), slug("")
    ('-a-red-circle-above', '')
    """
    words = re.sub(r"[^a-z0-9]+", "-", caption.lower()).strip("-")
    return f"-{words[:longest].rstrip('-')}" if words else ""


def png(image: Image) -> bytes:
    """A picture as the bytes of a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def data_url(image: Image) -> str:
    """A picture inside a page, so that the page needs no other file."""
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"


def fields_of(request: Any) -> dict[str, Any]:
    """A request as plain settings."""
    return {f.name: getattr(request, f.name) for f in dataclasses.fields(request)}
