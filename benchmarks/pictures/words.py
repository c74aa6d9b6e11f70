"""Plates of the systems between words and pictures: prompts with what is drawn of them, pictures with what is
said of them.

Captions are of scenes that nothing was trained on, the first ones after those that any preview or measurement
uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.glide import led_by_clip
from benchmarks.pictures.plates import PALE, Row, Sheet, row
from sfumato import load
from sfumato.apps.rerank import best
from sfumato.apps.sample import Source
from sfumato.apps.sheet import Cell
from sfumato.core.request import Caption, Complete, Edit, Generate, Images, Request, Score, Text
from sfumato.core.system import System
from sfumato.data.shapes.dataset import Shapes
from sfumato.data.shapes.one import OneShape
from sfumato.data.shapes.related import RelatedShapes
from sfumato.data.shapes.retold import described_shape
from sfumato.data.shapes.single import in_a_scene
from sfumato.images import to_pil
from sfumato.systems.diffusion.glide import GLIDE
from sfumato.systems.diffusion.imagen import Imagen
from sfumato.systems.diffusion.ldm import LDM
from sfumato.systems.text.captioner import Captioner
from sfumato.systems.text.clip import CLIP
from sfumato.systems.text.dalle import DALLE
from sfumato.systems.text.dfgan import DFGAN
from sfumato.systems.text.stackgan import StackGAN

FIRST, SEED = 4_000, 4_000_000
PROMPTS, LEFT, MANY = 6, 96, 16


@torch.no_grad()
def made(system: System[Any], request: Request) -> Tensor:
    """The pictures that answer a request."""
    *_, answer = system.run(request)
    assert isinstance(answer, Images)
    return answer.pixels.float().cpu()


def drawn(system: System[Any], prompts: Sequence[str], seed: int = SEED, **asked: object) -> Tensor:
    """A picture of each prompt."""
    return made(system, Generate(prompt=tuple(prompts), count=len(prompts), seed=seed, **asked))  # type: ignore[arg-type]


def fresh(data: Any, count: int) -> tuple[Tensor, list[str]]:
    """Pictures and captions that nobody has seen, no caption twice."""
    batch = data.batch(torch.arange(FIRST, FIRST + 4 * count))
    first = {text: i for i, text in reversed([*enumerate(batch["caption"])])}
    rows = sorted(first.values())[:count]
    return batch["image"][rows], [batch["caption"][i] for i in rows]


def scenes(count: int) -> tuple[Tensor, list[str]]:
    """Scenes of one to three shapes, and short captions."""
    return fresh(Shapes("test", 64, length=FIRST + 4 * count, levels={"short": 1.0}), count)


def one_shape(size: int, count: int = PROMPTS) -> tuple[Tensor, list[str]]:
    """One shape in few words."""
    return fresh(OneShape("test", size, length=FIRST + 4 * count), count)


def relations(size: int, count: int = PROMPTS) -> tuple[Tensor, list[str]]:
    """Two shapes, and how they stand to each other."""
    return fresh(RelatedShapes("test", size, length=FIRST + 4 * count), count)


def on_the_way(system: System[Any], prompt: str, shown: int) -> Tensor:
    """What a picture would be at moments on its way."""
    looks = [
        event.preview()
        for event in system.run(Generate(prompt=prompt, count=1, seed=SEED))
        if not isinstance(event, Images) and event.preview
    ]
    return torch.cat(looks)[torch.linspace(0, len(looks) - 1, shown).round().long()]


def ldm(system: LDM, path: Path) -> Path:
    """Prompts, seeds, guidance, and the way."""
    prompts = scenes(5)[1]
    sheet = Sheet("Latent diffusion: pictures from words", "Captions of scenes that nothing was trained on.")
    rows = [
        row(drawn(system, prompts), f"guidance {system.config.guidance:g}", heads=prompts),
        row(drawn(system, prompts, guidance=1.0), "the same noise, unguided"),
        row(drawn(system, prompts, SEED + 100), "another seed"),
        row(on_the_way(system, prompts[0], len(prompts)), "the first on its way from noise"),
    ]
    sheet.table(rows, label=LEFT)
    return sheet.save(path)


def imagen(system: Imagen, path: Path) -> Path:
    """Prompts, and the same with their objects changed over, at both stages."""
    prompts = [
        text for caption in relations(system.config.height, 3)[1] for text in (caption, swapped(caption))
    ]
    sheet = Sheet(
        "Imagen: who reads word order can tell above from below",
        "In every second prompt the objects of the one before are changed over; a bag of words cannot tell.",
    )
    stages = through(system, prompts)
    rows = [
        row(stages[0], "first stage, 24 pixels", heads=prompts),
        row(stages[-1], "enlarged by the second, 48"),
    ]
    again = through(system, prompts, SEED + 100)
    sheet.table([*rows, row(again[-1], "another seed")], label=LEFT)
    return sheet.save(path)


def swapped(caption: str) -> str:
    """The objects of a caption changed over.

    >>> swapped("a red circle left of a blue square")
    'a blue square left of a red circle'
    """
    words = caption.split()
    return " ".join([*words[-3:], *words[3:-3], *words[:3]])


def through(system: Imagen, prompts: Sequence[str], seed: int = SEED) -> list[Tensor]:
    """What each stage hands on, enlarged to the size of the last."""
    found, count = [], len(system.config.stages)
    for event in system.run(Generate(prompt=tuple(prompts), count=len(prompts), seed=seed)):
        if isinstance(event, Images):
            found.append(event.pixels.float())
        elif event.preview and len(found) < count - 1 and event.done * count >= len(found) + 1 - 1e-6:
            found.append(event.preview().float().clamp(-1, 1))
    return found


def glide(system: GLIDE, path: Path) -> Path:
    """The same noise led in three ways; holes."""
    images, prompts = relations(system.config.height)
    clip, side = led_by_clip(system), system.config.height
    mask = torch.zeros(1, 1, side, side)
    mask[:, :, side // 3 :, side // 3 :] = 1
    filled = [
        made(system, Edit(prompt=text, images=image[None], mask=mask, count=1, seed=SEED))
        for image, text in zip(images, prompts, strict=True)
    ]
    sheet = Sheet("GLIDE: led by words, or by a CLIP that sees through noise", "One noise a column.")
    rows = [
        row(drawn(system, prompts, guidance=1.0), "unguided", heads=prompts),
        row(drawn(system, prompts, guidance=3.0), "guided without a classifier, scale 3"),
        row(drawn(clip, prompts, guidance=10.0), "led by CLIP, scale 10"),
        row(holed(images, mask), "a true picture with a hole"),
        row(torch.cat(filled), "painted anew after the caption"),
    ]
    sheet.table(rows, label=LEFT)
    return sheet.save(path)


def dalle(system: DALLE, path: Path) -> Path:
    """Pictures of prompts, the best of several, and pictures of which the top half was given."""
    images, prompts = one_shape(system.config.height)
    request = Generate(prompt=tuple(prompts), count=PROMPTS, seed=SEED)
    completed = made(system, Complete(images=images, prompt=tuple(prompts), count=PROMPTS, seed=SEED))
    chosen = best(system, request, Source(""), InScenes(load("clip-shapes", device="cpu")), "", MANY).pixels
    half = torch.zeros_like(images[:1, :1])
    half[:, :, images.shape[2] // 2 :] = 1
    sheet = Sheet(
        "DALL-E: words and the numbers of a picture in one stream",
        "Number by number, row by row; a CLIP then chooses among sixteen pictures.",
    )
    rows = [
        row(drawn(system, prompts), "drawn", heads=prompts),
        row(drawn(system, prompts, SEED + 100), "another seed"),
        row(chosen, f"best of {MANY}, by clip-shapes"),
        row(holed(images, half), "top half of a true picture"),
        row(completed, "completed after the caption"),
    ]
    sheet.table(rows, label=LEFT)
    return sheet.save(path)


def holed(images: Tensor, mask: Tensor) -> Tensor:
    """Pictures with a chequered hole where the mask is 1."""
    rows, columns = (torch.arange(side) // 2 for side in images.shape[2:])
    squares = 0.7 + 0.3 * ((rows[:, None] + columns) % 2)
    return images * (1 - mask) + squares * mask


class InScenes:
    """A judge of scenes that is shown single shapes: they are put into the middle of one."""

    def __init__(self, clip: System[Any]):
        self.clip, self.can, self.device = clip, clip.can, clip.device

    def run(self, request: Score) -> Any:
        return self.clip.run(replace(request, images=in_a_scene(request.images)))


def dfgan(system: DFGAN, path: Path) -> Path:
    """Prompts and noises."""
    prompts = one_shape(system.config.height)[1]
    sheet = Sheet(
        "DF-GAN: one generator, told the sentence in every block", "Fresh captions; one noise a row."
    )
    rows = [row(drawn(system, prompts, SEED + 100 * k), f"noise {k + 1}") for k in range(4)]
    sheet.table([replace(rows[0], heads=prompts), *rows[1:]], label=LEFT)
    return sheet.save(path)


def stackgan(system: StackGAN, path: Path) -> Path:
    """Sketches, and what the second stage makes of them if there is one."""
    prompts = one_shape(system.config.height)[1]
    sheet = Sheet("StackGAN: a sketch of the sentence, then a painting of the sketch", "Fresh captions.")
    rows = []
    for k in range(3):
        request = Generate(prompt=tuple(prompts), count=PROMPTS, seed=SEED + 100 * k)
        *looks, answer = system.run(request)
        assert isinstance(answer, Images)
        sketches = [look.preview() for look in looks if not isinstance(look, Images) and look.preview]
        rows += [row(sketch, f"sketch {k + 1}") for sketch in sketches[:1]]
        rows.append(row(answer.pixels, "painted" if sketches else f"noise {k + 1}"))
    sheet.table([replace(rows[0], heads=prompts), *rows[1:]], label=LEFT)
    return sheet.save(path)


@torch.no_grad()
def clip(system: CLIP, path: Path) -> Path:
    """Cosines of captions and pictures."""
    count, left, wide = 8, 256, 77
    images, captions = scenes(count)
    *_, ranking = system.run(Score(images=images, texts=tuple(captions)))
    sheet = Sheet(
        "CLIP: pictures and texts in one space",
        "Cosines of held-out pictures with captions; they should be largest where both belong together.",
    )
    for i, image in enumerate(images):
        picture = to_pil(image)
        sheet.picture(picture, left + i * wide + (wide - 2 - picture.width) // 2, sheet.y)
    sheet.y += images.shape[2] + 10
    scores = ranking.scores.T
    ends = (float(scores.min()), float(scores.max()))
    sheet.matrix(scores, left=left, side=(wide, 44), labels=captions, span=ends)
    right = (
        int((scores.argmax(0) == torch.arange(count)).sum()),
        int((scores.argmax(1) == torch.arange(count)).sum()),
    )
    sheet.text(
        f"{right[0]} of {count} pictures find their text, {right[1]} of {count} texts their picture.",
        ink=PALE,
    )
    return sheet.save(path)


def captioner(system: Captioner, path: Path) -> Path:
    """Pictures with what is said of them."""
    columns, count = 5, 10
    batch = described_shape("test", system.config.vision.size[0]).batch(torch.arange(FIRST, FIRST + count))
    *_, told = system.run(Caption(images=batch["image"], count=count))
    assert isinstance(told, Text)
    cells = [
        Cell(to_pil(image), said, "" if said == true else f"in truth: {true}")
        for image, said, true in zip(batch["image"], told.texts, batch["caption"], strict=True)
    ]
    sheet = Sheet("Captioner: held-out pictures, and what it says of them")
    sheet.table([Row(cells[i : i + columns]) for i in range(0, count, columns)], side=160, gap=15)
    right = sum(said == true for said, true in zip(told.texts, batch["caption"], strict=True))
    sheet.text(f"{right} of {count} texts are word for word what the data say of the picture.", ink=PALE)
    return sheet.save(path)
