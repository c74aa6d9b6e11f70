"""A small web on disk whose truth is known: pages of pictures with true and false texts, copies and junk.

Four in ten pictures carry a true text, four in ten that of another picture, one in ten is a copy of one of
these (another size, another quality, another address), one in ten is junk: cut off, not a picture, too
small, a banner, without a proper text, in German. The pictures show one shape each, grainy as photographs
are, at many sizes and qualities.
"""

from __future__ import annotations

import io
import json
import random
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sfumato.data.shapes import OneShape, read, satisfies
from sfumato.images import to_pil

DRAWN = 64
"""Pixels a side at which scenes are drawn, before they are enlarged to one of these:"""
SIDES = (208, 240, 272)
QUALITY = (85, 96)
GRAIN = 5.0
FIRST = 100_000
"""First scene of the web; what a CLIP learns from are those below 50,000."""
A_PAGE = 20
JUNK = ("cut off", "no picture", "thumbnail", "banner", "short text", "file name", "german", "missing")


@dataclass(frozen=True)
class Told:
    """The truth about a picture of the web."""

    kind: str
    """``true``, ``false``, ``copy``, or which junk."""
    scene: int
    of: str = ""
    """The address of what it is a copy of."""


def build(folder: Path, count: int, seed: int = 0) -> dict[str, Told]:
    """Write pages and pictures; gives the truth by address, also kept beside the folder."""
    aside = folder.with_suffix(".truth.json")
    if aside.exists():
        return {address: Told(**told) for address, told in json.loads(aside.read_text()).items()}
    dice, grain = random.Random(seed), np.random.default_rng(seed)
    (folder / "img").mkdir(parents=True)
    truth: dict[str, Told] = {}
    tags: list[str] = []

    def put(picture: bytes | None, text: str, told: Told, suffix: str = "jpg") -> str:
        name = f"{len(truth):06d}.{suffix}"
        if picture is not None:
            (folder / "img" / name).write_bytes(picture)
        address = f"file:///img/{name}"
        truth[address] = told
        tags.append(f'<p><img src="../img/{name}" alt="{escape(text)}">')
        return address

    pairs = round(0.8 * count)
    for start in range(0, pairs, 200):
        rows = torch.arange(FIRST + start, FIRST + min(pairs, start + 200))
        data = OneShape("train", DRAWN, length=FIRST + count)
        batch = data.batch(rows)
        scenes = data.scenes(rows)
        texts = list(batch["caption"])
        others = _wrong(texts, scenes, dice)
        for i, row in enumerate(rows.tolist()):
            side = dice.choice(SIDES)
            picture = _grainy(to_pil(batch["image"][i]).resize((side, side), Image.Resampling.BICUBIC), grain)
            right = dice.random() < 0.5
            text = texts[i] if right else others[i]
            told = Told("true" if right else "false", row)
            address = put(_jpeg(picture, dice.randrange(*QUALITY)), text, told)
            if dice.random() < 0.125:
                side_of_copy = round(side * dice.choice((0.9, 1.0, 1.25)))
                copy = picture.resize((side_of_copy, side_of_copy), Image.Resampling.BILINEAR)
                put(_jpeg(copy, dice.randrange(80, 96)), text, Told("copy", row, address))
            if dice.random() < 0.125:
                _junk(put, picture, texts[i], row, dice)
    dice.shuffle(tags)
    (folder / "pages").mkdir()
    for number, start in enumerate(range(0, len(tags), A_PAGE)):
        page = "\n".join(tags[start : start + A_PAGE])
        (folder / "pages" / f"{number:05d}.html").write_text(f"<!doctype html><html><body>{page}\n</html>")
    aside.write_text(json.dumps({address: vars(told) for address, told in truth.items()}))
    return truth


def _wrong(texts, scenes, dice):
    """For every picture the text of another, of which something is not true of it."""
    order = list(range(len(texts)))
    dice.shuffle(order)
    said = [read(text) for text in texts]
    found = []
    for i in range(len(texts)):
        one = scenes[torch.tensor([i])]
        turn = order[i:] + order[:i]
        found.append(next(texts[k] for k in turn if not bool(satisfies(one, [said[k]])["all"][0])))
    return found


def _junk(put, picture, text, row, dice):
    kind = dice.choice(JUNK)
    told, data = Told(kind, row), _jpeg(picture, 90)
    if kind == "cut off":
        put(data[: len(data) // 2], text, told)
    elif kind == "no picture":
        put(b"<html>not found</html>" * 300, text, told)
    elif kind == "thumbnail":
        put(_jpeg(picture.resize((48, 48)), 80), text, told)
    elif kind == "banner":
        put(_jpeg(picture.resize((picture.width * 4, picture.width)), 95), "buy two circles today", told)
    elif kind == "short text":
        put(data, "ring", told)
    elif kind == "file name":
        put(data, f"IMG_{row}.JPG", told)
    elif kind == "german":
        put(data, "ein schönes Bild von einem Kreis", told)
    else:
        put(None, text, told)


def _grainy(picture: Image.Image, grain: np.random.Generator) -> Image.Image:
    levels = np.asarray(picture.convert("RGB")).astype(np.float64)
    return Image.fromarray(
        (levels + grain.normal(0, GRAIN, levels.shape)).round().clip(0, 255).astype(np.uint8)
    )


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
