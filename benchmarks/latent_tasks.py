"""Latent diffusion's other tasks on scenes of shapes, each figure with its control.

Example: python -m benchmarks.latent_tasks runs/inpainting-laptop runs/layout-laptop --picture tasks.png

Runs of inpainting, layout, semantic (beside them pix2pix on the same maps), and of what enlarges (ldmsr, sr3,
srgan), which are compared with the bicubic filter. Pictures come from the test split; what they show is read
by the evaluation oracle, which no training may see, or found by colour (metrics/segmentation.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

import sfumato
from benchmarks.translation import cells
from sfumato.apps.layout import framed
from sfumato.core.request import Edit, Images, Layout, Request, Translate, Upscale
from sfumato.core.system import System
from sfumato.data.boxes import Box
from sfumato.data.scenery import THINGS, Scenery, around
from sfumato.data.shapes import Scenes, Shapes
from sfumato.data.shapes.scene import BACKGROUNDS, COLOURS, PLACES, SHAPES
from sfumato.device import setup
from sfumato.images import grid, save_png, to_pil, to_tensor
from sfumato.metrics.oracle import evaluation_oracle
from sfumato.metrics.psnr import psnr
from sfumato.metrics.segmentation import box_iou, mean_iou, objects, segmented
from sfumato.nn.srresnet import enlarged, reduced
from sfumato.systems.gans.srgan import whole_levels

COUNT, SIZE, COLUMNS = 200, 64, 8
LOOKS = ("shape", "colour", "size", "texture")
Figures = dict[str, float]


@torch.no_grad()
def asked(system: System[Any], request: Request) -> Tensor:
    """The pictures that answer a request."""
    *_, answer = system.run(request)
    return cast(Images, answer).pixels.cpu()


# --- inpainting --------------------------------------------------------------------------------------


def of_inpainting(system: System[Any], count: int = COUNT) -> Figures:
    """A cell with an object is painted anew from the caption; half of an object, with the caption and without
    a word.

    A picture counts if the oracle finds in the cell what was there: shape, colour, size and texture. The
    controls paint the mask with the mean of what is known, or read the cell against another picture's.
    """
    data, oracle = Shapes("test", SIZE, levels={"full": 1.0}), evaluation_oracle()
    rows = torch.arange(count)
    batch, scenes = data.batch(rows), data.scenes(rows)
    images, found = batch["image"], Figures()
    place = scenes.place[:, 0]
    ways = {
        "cell, told": (cell_mask(place), batch["caption"]),
        "half, told": (half_mask(place), batch["caption"]),
        "half, untold": (half_mask(place), [""] * count),
    }
    for name, (mask, prompts) in ways.items():
        made, mean = edited(system, images, mask, prompts), filled(images, mask)
        found[f"{name}: right"] = right(oracle.read(made), scenes, place)
        found[f"{name}: right if filled with the mean"] = right(oracle.read(mean), scenes, place)
        found[f"{name}: right in another's picture"] = right(oracle.read(made.roll(1, 0)), scenes, place)
        found[f"{name}: RMSE inside the mask"] = inside(made, images, mask)
        found[f"{name}: RMSE inside if filled with the mean"] = inside(mean, images, mask)
        found[f"{name}: whole scene right"] = whole(oracle.read(made), scenes)
        found[f"{name}: largest change outside"] = ((made - images) * (1 - mask)).abs().max().item()
    found["right in the true picture"] = right(oracle.read(images), scenes, place)
    return found


def edited(system: System[Any], images: Tensor, mask: Tensor, prompts: list[str]) -> Tensor:
    """Pictures painted inside a mask, each as its own prompt says."""
    made = torch.empty_like(images)
    for prompt in dict.fromkeys(prompts):
        rows = [i for i, other in enumerate(prompts) if other == prompt]
        request = Edit(seed=rows[0], count=len(rows), prompt=prompt, images=images[rows], mask=mask[rows])
        made[rows] = asked(system, request)
    return made


def cell_mask(place: Tensor, size: int = SIZE) -> Tensor:
    """The whole cell, one of three by three, with these numbers: (n, 1, h, w)."""
    lines = torch.arange(size) * 3 // size
    row, column = place // 3, place % 3
    return ((lines == row[:, None])[:, :, None] & (lines == column[:, None])[:, None, :])[:, None].float()


def half_mask(place: Tensor, size: int = SIZE) -> Tensor:
    """The left half of the cell."""
    column = torch.arange(size)
    middle = (place % 3 * 2 + 1) * size // 6
    return cell_mask(place, size) * (column < middle[:, None])[:, None, None, :]


def filled(images: Tensor, mask: Tensor) -> Tensor:
    """Pictures with the mean of what is outside the mask inside of it."""
    mean = (images * (1 - mask)).sum((2, 3), keepdim=True) / (1 - mask).sum((2, 3), keepdim=True)
    return images * (1 - mask) + mean * mask


def inside(made: Tensor, real: Tensor, mask: Tensor) -> float:
    """Root mean square of the difference under masks, over all pictures."""
    area = mask.sum() * made.shape[1]
    return (((made - real) * mask).square().sum() / area).sqrt().item()


def right(read: Scenes, true: Scenes, place: Tensor) -> float:
    """Share of pictures in which a cell holds what it should."""
    hits = [
        cells(read, look).gather(1, place[:, None]) == cells(true, look).gather(1, place[:, None])
        for look in LOOKS
    ]
    return torch.stack(hits).all(0).float().mean().item()


def whole(read: Scenes, true: Scenes) -> float:
    """Share of pictures in which every cell holds what it should, and the ground is the same."""
    same = [(cells(read, look) == cells(true, look)).all(1) for look in LOOKS]
    return torch.stack([*same, read.background == true.background]).all(0).float().mean().item()


# --- layout ------------------------------------------------------------------------------------------


def layouts_of(boxes: Tensor) -> tuple[tuple[Box, ...], ...]:
    """What a dataset's boxes say, in words."""
    return tuple(
        tuple(Box(THINGS[int(row[0]) - 1], *row[1:].tolist()) for row in rows if row[0] > 0) for rows in boxes
    )


def of_layout(system: System[Any], count: int = COUNT) -> Figures:
    """Boxes found against boxes asked for; the control holds them against those of the next picture."""
    data = Scenery("test", SIZE)
    wanted = data.batch(torch.arange(count))["boxes"]
    made = asked(system, Layout(seed=0, count=count, layouts=layouts_of(wanted)))
    true = data.batch(torch.arange(count))["image"]
    return {
        **{f"asked: {k}": v for k, v in boxed(made, wanted).items()},
        **{f"shuffled: {k}": v for k, v in boxed(made.roll(1, 0), wanted).items()},
        **{f"true pictures: {k}": v for k, v in boxed(true, wanted).items()},
    }


def boxed(pixels: Tensor, wanted: Tensor) -> Figures:
    """Means over the boxes asked for: overlap with the nearest found, and the thing that the oracle reads."""
    read = evaluation_oracle().read(pixels)
    there = wanted[..., 0] > 0
    found = around(objects(segmented(pixels)[0]))
    overlap = box_iou(wanted[:, :, None, 1:], found[:, None]).amax(2)
    middle = (wanted[..., 1:3] + wanted[..., 3:]) / 2
    place = ((middle[..., 1] * 3).long() * 3 + (middle[..., 0] * 3).long()).clamp(0, len(PLACES) - 1)
    thing = (wanted[..., 0].long() - 1).clamp(min=0)
    hits = {
        "colour": cells(read, "colour").gather(1, place) == thing // len(SHAPES),
        "shape": cells(read, "shape").gather(1, place) == thing % len(SHAPES),
    }
    return {
        "IoU": overlap[there].mean().item(),
        "class": (hits["colour"] & hits["shape"])[there].float().mean().item(),
        **{name: hit[there].float().mean().item() for name, hit in hits.items()},
        "number": (read.number == there.sum(1)).float().mean().item(),
    }


# --- semantic synthesis ------------------------------------------------------------------------------


def label_maps(data: Scenery, rows: Tensor) -> Tensor:
    """The true segmentation of examples: grounds, then colours."""
    scenes, source = data.scenes(rows), data.batch(rows)["source"]
    thing = (source != source[:, :, :1, :1]).any(1)  # no object reaches the corner
    lines = torch.arange(data.size) * 3 // data.size
    colour = cells(scenes, "colour")[:, lines[:, None] * 3 + lines] + 1
    return numbered(torch.where(thing, colour, 0), scenes.background)


def numbered(found: Tensor, ground: Tensor) -> Tensor:
    """Grounds as numbers from 0, colours after them."""
    return torch.where(found > 0, len(BACKGROUNDS) - 1 + found, ground[:, None, None])


def of_semantic(system: System[Any], count: int = COUNT) -> Figures:
    """Mean IoU of samples, segmented anew by colour, with their maps; the control takes the next map."""
    data, rows = Scenery("test", SIZE), torch.arange(count)
    batch, true = data.batch(rows), label_maps(data, rows)
    classes = len(BACKGROUNDS) + len(COLOURS)
    made = asked(system, Translate(seed=0, count=count, images=batch["source"]))
    again = asked(system, Translate(seed=count, count=count, images=batch["source"]))
    real = batch["image"]
    return {
        "mIoU": mean_iou(numbered(*segmented(made)), true, classes),
        "mIoU with the next map": mean_iou(numbered(*segmented(made.roll(1, 0))), true, classes),
        "mIoU of true pictures": mean_iou(numbered(*segmented(real)), true, classes),
        "texture": textures(made, data.scenes(rows)),
        "difference between two seeds": (made - again).abs().mean().item(),
        "sharpness": sharpness(made) / sharpness(real),
    }


def textures(pixels: Tensor, true: Scenes) -> float:
    """Share of objects with the texture that the map says, as the oracle reads it."""
    read, there = cells(evaluation_oracle().read(pixels), "texture"), cells(true, "texture")
    return (read == there)[there >= 0].float().mean().item()


# --- super-resolution --------------------------------------------------------------------------------


def sharpness(x: Tensor) -> float:
    """Mean absolute difference of neighbouring pixels."""
    return (x.diff(dim=2).abs().mean() + x.diff(dim=3).abs().mean()).item() / 2


def of_enlarging(models: Mapping[str, System[Any]], count: int = COUNT) -> dict[str, Figures]:
    """Every model, and the bicubic filter, on scenes never seen that were made four times smaller."""
    real = Shapes("test", SIZE).batch(torch.arange(count))["image"]
    small = whole_levels(reduced(real))
    table = {}
    for name, enlarge in enlargers(models).items():
        made = enlarge(small)
        table[name] = {
            "sharpness": sharpness(made) / sharpness(real),
            "RMSE when reduced again": (reduced(made) - small).square().mean().sqrt().item(),
            "PSNR": psnr(made, real, span=2.0).mean().item(),
            "objects read": readable(made, real),
        }
    table["true"] = {"sharpness": 1.0, "objects read": readable(real, real)}
    return table


def readable(made: Tensor, real: Tensor) -> float:
    """Share of objects that the oracle reads as it does in the true picture."""
    read, true = (evaluation_oracle().read(x) for x in (made, real))
    there = cells(true, "shape") >= 0
    hits = torch.stack([cells(read, look) == cells(true, look) for look in LOOKS]).all(0)
    return hits[there].float().mean().item()


def enlargers(models: Mapping[str, System[Any]]) -> dict[str, Callable[[Tensor], Tensor]]:
    """What enlarges small pictures, by name."""

    def by(model: System[Any]) -> Callable[[Tensor], Tensor]:
        return lambda small: asked(model, Upscale(seed=0, count=len(small), images=small))

    return {"bicubic": lambda x: enlarged(x, "bicubic").clamp(-1, 1)} | {n: by(m) for n, m in models.items()}


# --- pictures ----------------------------------------------------------------------------------------


def sheet(systems: Mapping[str, System[Any]], columns: int = COLUMNS) -> Tensor:
    """Rows of examples from the test split: what was given, what came of it, and the truth where there is
    one."""
    rows, found = torch.arange(columns), []
    enlarging = {n: s for n, s in systems.items() if Upscale in s.can}
    for system in systems.values():
        if Edit in system.can:
            data = Shapes("test", SIZE, levels={"full": 1.0})
            batch, place = data.batch(rows), data.scenes(rows).place[:, 0]
            mask = cell_mask(place)
            found += [batch["image"] * (1 - mask), edited(system, batch["image"], mask, batch["caption"])]
        elif Layout in system.can:
            layouts = layouts_of(Scenery("test", SIZE).batch(rows)["boxes"])
            made = asked(system, Layout(seed=0, count=columns, layouts=layouts))
            names = [to_tensor(framed(None, boxes, 2 * SIZE)) for boxes in layouts]
            shown = [
                to_tensor(framed(to_pil(x), boxes, 2 * SIZE)) for x, boxes in zip(made, layouts, strict=True)
            ]
            found += [torch.stack(names), torch.stack(shown)]
        elif Translate in system.can:
            batch = Scenery("test", SIZE).batch(rows)
            made = [asked(system, Translate(seed=s, count=columns, images=batch["source"])) for s in (0, 50)]
            found += [batch["source"], *made]
    if enlarging:
        real = Shapes("test", SIZE).batch(rows)["image"]
        small = whole_levels(reduced(real))
        pixels = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
        found += [pixels, *(enlarge(small) for enlarge in enlargers(enlarging).values()), real]
    large = [x if x.shape[3] > SIZE else x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in found]
    return torch.cat(large)


def main() -> None:
    """Print the figures of runs, and save their pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "models", nargs="+", help="runs of inpainting, layout, semantic, pix2pix, ldmsr, sr3, srgan"
    )
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--picture", type=Path, help="where to save examples")
    given = parser.parse_args()
    setup()
    systems = {Path(model).name: sfumato.load(model, precision="fp32") for model in given.models}
    measures = {Edit: of_inpainting, Layout: of_layout, Translate: of_semantic}
    table: dict[str, Figures] = {}
    for name, system in systems.items():
        for task, measure in measures.items():
            if task in system.can:
                table[name] = measure(system, given.count)
    enlarging = {name: system for name, system in systems.items() if Upscale in system.can}
    if enlarging:
        table |= of_enlarging(enlarging, given.count)
    for name, figures in table.items():
        for figure, value in figures.items():
            print(f"{name:16} {figure:44} {value:.4f}")
    if given.picture:
        save_png(grid(sheet(systems), COLUMNS), given.picture)


if __name__ == "__main__":
    main()
