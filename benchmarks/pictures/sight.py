"""Plates of what looks: what single channels like to see, and photographs in the styles of textures.

Photographs are those that no training sees, styles too; both are taken in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.pictures.plates import BETWEEN, GAP, Row, Sheet, row
from benchmarks.pictures.words import made
from sfumato.core.request import Stylize
from sfumato.data import textures
from sfumato.data.photos import HELD_OUT, open_photo
from sfumato.data.sights import Sights
from sfumato.images import fit, from_levels, to_tensor
from sfumato.nn.adain import reach_of
from sfumato.systems.style.adain import AdaIN
from sfumato.systems.style.faststyle import FastStyle
from sfumato.systems.style.vgg import VGGNet

CHANNELS, BEST, PATCH, LOOKED_AT = 10, 2, 72, 1200
PHOTO, STYLES = 256, 5
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def photographs(names: Sequence[str] = HELD_OUT, side: int = PHOTO) -> Tensor:
    """Photographs that nothing was trained on, their middles cut out."""
    return torch.stack([to_tensor(fit(open_photo(name), side, side)) for name in names])


@torch.no_grad()
def vgg(system: VGGNet, path: Path) -> Path:
    """Of channels of every stage, the parts of held-out pictures that excite them most."""
    images = Sights("test", 48, length=LOOKED_AT).batch(torch.arange(LOOKED_AT))["image"]
    shape = system.config.network
    sheet = Sheet(
        "VGG: what single channels like to see",
        f"Of {LOOKED_AT:,} held-out pictures, those that excite a channel most, cut to what it sees of them. "
        "The numbers are those of channels.",
    )
    for stage, (convs, width) in enumerate(zip(shape.convs, shape.widths, strict=True), start=1):
        layer = f"relu{stage}_{convs}"
        numbers = [int(k) for k in torch.linspace(0, width - 1, CHANNELS).round()]
        maps = torch.cat([system.network(part, [layer])[layer][:, numbers] for part in images.split(200)])
        side = min(images.shape[2], 2 * reach_of(shape, layer) + 1)
        liked = [_liked(images, maps[:, k], side, 2 ** (stage - 1)) for k in range(CHANNELS)]
        for rank, parts in enumerate(zip(*liked, strict=True)):
            label = "" if rank else f"{layer}\n{side} x {side} pixels"
            heads = () if rank else [str(k) for k in numbers]
            shown = interpolate(torch.stack(parts), (PATCH, PATCH), mode="bicubic").clamp(-1, 1)
            sheet.table([row(shown, label, heads=heads)], label=72)
            sheet.y -= 0 if rank == BEST - 1 else BETWEEN - GAP
    return sheet.save(path)


def _liked(images: Tensor, activity: Tensor, side: int, stride: int) -> list[Tensor]:
    """The parts, of this side, in which a map is largest, one a picture; white if it is 0 everywhere."""
    width = activity.shape[2]
    most, places = activity.flatten(1).max(1)
    found = []
    for picture in most.argsort(descending=True)[:BEST].tolist():
        top, left = (
            min(max(0, at * stride + stride // 2 - side // 2), length - side)
            for at, length in zip(divmod(int(places[picture]), width), images.shape[2:], strict=True)
        )
        part = images[picture, :, top : top + side, left : left + side]
        found.append(part if most[picture] > 0 else torch.ones_like(part))
    return found


def adain(system: AdaIN, path: Path) -> Path:
    """Photographs down, styles across; then one of both by degrees."""
    first = textures.STYLES - textures.HELD
    styles = [textures.paint(first + k, PHOTO, PHOTO) for k in range(STYLES)]
    photos = photographs()
    rows: list[Row] = [row(torch.stack([torch.ones_like(photos[0]), *styles]), "styles")]
    rows[0] = replace(rows[0], cells=[None, *rows[0].cells[1:]])
    for name, photo in zip(HELD_OUT, photos, strict=True):
        painted = [made(system, Stylize(images=photo[None], styles=(style,), count=1)) for style in styles]
        rows.append(row(torch.cat([photo[None], *painted]), name))
    third = Stylize(images=photos[:1], styles=(styles[2],), count=1)
    by_degrees = torch.cat([made(system, replace(third, strength=share)) for share in SHARES])
    degrees = row(
        by_degrees, "the third by degrees", heads=["", *(f"strength {share:g}" for share in SHARES)]
    )
    rows.append(replace(degrees, cells=[None, *degrees.cells]))
    sheet = Sheet(
        "AdaIN: any picture in the style of any other",
        "Neither photographs nor styles are any that training saw.",
    )
    sheet.table(rows, label=64, side=106)
    return sheet.save(path)


def faststyle(system: FastStyle, path: Path) -> Path:
    """The style it has learned, and photographs in it."""
    photos, style = photographs(side=400), system.style
    assert isinstance(style, Tensor)
    learned = interpolate(from_levels(style)[None], photos.shape[2:], mode="bicubic").clamp(-1, 1)
    names = [f"{name}, painted in one pass" for name in HELD_OUT]
    given = row(torch.cat([learned, photos]), "", ["the style it has learned", *HELD_OUT])
    painted = made(system, Stylize(images=photos, count=len(photos)))
    below = row(torch.cat([learned, painted]), "", ["", *names])
    sheet = Sheet("Fast style transfer: one style, learned once", "Photographs that no training saw.")
    sheet.table([given, replace(below, cells=[None, *below.cells[1:]])])
    return sheet.save(path)
