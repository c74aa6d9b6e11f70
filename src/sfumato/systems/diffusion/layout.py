"""Layout to image: pictures in which given things stand in given boxes, by latent diffusion.

Rombach et al. 2022, section 4.3.2: a transformer reads three tokens a box, class and two corners, and the
denoiser attends to what it makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.generate import Generate, in_turn
from sfumato.core.process import Karras, Process
from sfumato.core.request import Layout, Request
from sfumato.core.system import Preset, TrainConfig
from sfumato.data.boxes import Box, check_boxes
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.boxes import Boxes, BoxesConfig
from sfumato.nn.condition import Condition
from sfumato.systems.diffusion import starts
from sfumato.systems.diffusion.beside import Asked, Nothing
from sfumato.systems.diffusion.latent import SMALL, SMALL_OPTIM, Hear, LatentConfig, LatentDiffusion
from sfumato.systems.diffusion.words import Heard


@dataclass(frozen=True)
class LayoutConfig(LatentConfig):
    """A latent diffusion with a reader of boxes."""

    boxes: BoxesConfig = BoxesConfig()


class BoxReader:
    """Reads boxes, as rows of a class and two corners."""

    def __init__(self, config: BoxesConfig):
        self.config, self.text = config, Boxes(config)

    def said(self, batch: Mapping[str, Any], facts: Facts) -> Float[Tensor, "b s 5"]:
        """The boxes of a batch."""
        boxes: Tensor = batch["boxes"]
        if boxes.shape[1] != self.config.most:
            raise UsageError(
                f"The pictures of '{facts.name}' have room for {boxes.shape[1]} boxes, but this model reads "
                f"{self.config.most}; give --boxes.most {boxes.shape[1]}."
            )
        return boxes

    def nothing(self) -> Float[Tensor, "1 s 5"]:
        """No box at all."""
        return torch.zeros(1, self.config.most, 5)

    def encode(self, boxes: Sequence[Box]) -> Float[Tensor, "1 s 5"]:
        """A layout as rows; raises ``UsageError`` for one that cannot be."""
        check_boxes(boxes, self.config.things, self.config.most)
        rows = self.nothing()
        for i, box in enumerate(boxes):
            rows[0, i] = torch.tensor([1 + self.config.things.index(box.label), *box[1:]])
        return rows

    def read(self, ids: Float[Tensor, "b s 5"]) -> Condition:
        """One vector a token, and one for the whole layout."""
        tokens, pooled = self.text(ids.to(self.text.part.device))
        return Condition(tokens=tokens, vector=pooled)

    def hear(self, asked: Layout, request: Generate, size: tuple[int, int]) -> Heard:
        """The layouts of the pictures of a request that is part of what was asked."""
        start = request.seed - asked.seed
        layouts = in_turn(asked.layouts, range(start, start + request.count))
        rows = torch.cat([self.encode(boxes) for boxes in layouts])
        cond, null = self.read(rows), self.read(self.nothing().expand_as(rows))
        share = torch.ones(request.count, 1, 1, 1).to(self.text.part)
        said = tuple(", ".join(box.label for box in boxes) for boxes in layouts)
        return Heard(said, (cond,), (share,), null, ())


class LayoutToImage(LatentDiffusion):
    """A reader of boxes and a denoiser that attends to them."""

    tasks = (Layout,)
    needs = frozenset({"image", "boxes"})
    Config = LayoutConfig
    config: LayoutConfig
    reader: BoxReader

    def __init__(self, config: LayoutConfig):
        width = config.boxes.width
        super().__init__(config, BoxReader(config.boxes), Nothing(), width, width)

    @classmethod
    def fit(cls, config: LayoutConfig, facts: Facts) -> LayoutConfig:
        fitted: LayoutConfig = super().fit(config, facts)
        return replace(fitted, boxes=replace(config.boxes, things=facts.things))

    def preview(self, count: int, seed: int) -> Layout:
        things = self.config.boxes.things
        boxes = (Box(things[0], 0.04, 0.08, 0.3, 0.34), Box(things[len(things) // 2], 0.4, 0.42, 0.6, 0.62))
        return Layout(count=count, seed=seed, layouts=(boxes[: self.config.boxes.most],))

    def _asked(self, request: Request) -> Asked:
        if not isinstance(request, Layout):
            raise UsageError(f"Layout to image does not serve a {type(request).__name__}; give boxes.")
        if not request.layouts:
            raise UsageError("There is no layout; give at least one.")
        for boxes in request.layouts:
            self.reader.encode(boxes)
        told = Generate(
            seed=request.seed, count=request.count, steps=request.steps, guidance=request.guidance
        )
        return told, starts.nothing

    def _hearing(self, request: Request) -> Hear:
        assert isinstance(request, Layout)
        return partial(self.reader.hear, request)

    @property
    def hears(self) -> frozenset[str]:
        return frozenset()


LayoutToImage.presets = {
    "laptop": Preset(
        LayoutConfig(
            network=SMALL,
            process=Process(Karras(mean=0.8, std=1.2)),
            optim=SMALL_OPTIM,
            guidance=2.0,
        ),
        data="labels-to-scenes",
        size=64,
        train=TrainConfig(steps=1600, batch=32, ema=0.995),
        base=("ldm", "shapes"),
    )
}
