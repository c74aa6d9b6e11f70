"""Fast style transfer: a network that paints every picture in one style, which it has learned, in one pass.

Johnson, Alahi, Fei-Fei: Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016, arXiv
1603.08155. What the search of Gatys et al. finds for one picture in hundreds of steps, the network learns to
answer at once; it descends the same objective, over all pictures of a folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.compat.fast_style import PUBLISHED, read_transformer
from sfumato.core.perceptual import content_loss, gram, recoloured, style_loss, total_variation
from sfumato.core.request import Event, Images, Progress, Stylize
from sfumato.core.rng import Rng
from sfumato.core.stylize import check, without_search
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Portable, Preset, System, TrainConfig
from sfumato.core.tiles import tiles
from sfumato.data.dataset import Dataset, Facts
from sfumato.data.style_picture import TEXTURE, style_levels
from sfumato.errors import DataError, UsageError
from sfumato.images import from_levels
from sfumato.nn.image_transform import ImageTransform, ImageTransformConfig
from sfumato.nn.vgg import VGG
from sfumato.systems.style.eyes import eyes

MOSAIC = 128
"""Pixels a side of the squares by which a picture that is too large is judged as a whole."""

FAINTER, FADING = -0.6, 0.5
"""Logarithm of the contrast of a shaken channel, and how much that varies."""
PALER, TONE = 0.5, 0.25
"""What is left of such a channel's mean, and how much it is moved."""


@dataclass(frozen=True)
class FastStyleConfig:
    """The style, the network, and what it descends."""

    channels: int = 3
    style: str = "texture:19"
    """The picture whose style it learns: a file, or "texture:" and the number of a painted one."""
    style_size: int = 256
    """Side of the square with as many pixels as the style is scaled to; it sets the size of the strokes."""
    style_height: int = 256
    style_width: int = 256
    network: ImageTransformConfig = ImageTransformConfig()
    features: str = "vgg-small"
    """The network whose maps are compared: one that comes along, a run of vgg, or a public weight file."""
    content_layer: str = "relu3_2"
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    content_weight: float = 1.0
    """Of the squared error in the content layer (equation 2), as a share of its squared maps."""
    style_weight: float = 1.0
    """Of the squared errors of Gram matrices (equation 4), as shares of their squares, over all layers."""
    variation_weight: float = 0.0
    """Of squared differences of neighbouring pixels (section 3.2)."""
    shaken: float = 0.0
    """Share of pictures whose colours and contrasts change by chance in training, where there are few."""
    optim: OptimConfig = OptimConfig(lr=1e-3, clip=0.0)
    whole: int = 2**21
    """Most pixels of a picture that is painted whole; a larger one is painted in squares without a seam, by
    statistics from a sample of it."""
    tile: int = 512
    """Pixels a side of these squares."""


class FastStyle(System[Stylize]):
    """One network; the style it has learned is kept with it."""

    tasks = (Stylize,)
    Config = FastStyleConfig
    published = PUBLISHED

    def __init__(self, config: FastStyleConfig):
        super().__init__()
        self.config = c = config
        step = 2**c.network.halvings
        if c.tile < step or c.tile % step:
            raise UsageError(f"Tiles are multiples of {step} pixels a side, got {c.tile}; 512 is usual.")
        if not 0 <= c.shaken <= 1:
            raise UsageError(f"A share of pictures is shaken, from 0 to 1, got {c.shaken:g}.")
        self.network = ImageTransform(replace(c.network, channels=c.channels))
        levels = torch.zeros(c.channels, c.style_height, c.style_width, dtype=torch.uint8)
        self.register_buffer("style", levels)
        self._targets: dict[str, Tensor] | None = None

    @classmethod
    def fit(cls, config: FastStyleConfig, facts: Facts) -> FastStyleConfig:
        levels = style_levels(config.style, config.style_size, facts.channels)
        eyes(config.features).smallest((config.content_layer, *config.style_layers))
        return replace(
            config, channels=facts.channels, style_height=levels.shape[1], style_width=levels.shape[2]
        )

    def prepare(self, data: Dataset) -> Dataset:
        """Keep the style's pixels, so that a run needs its picture no longer once it has begun."""
        c, style = self.config, self._style()
        if not bool(style.any()) and (c.style.startswith(TEXTURE) or Path(c.style).expanduser().is_file()):
            style.copy_(style_levels(c.style, c.style_size, c.channels))
        return data

    def _style(self) -> Tensor:
        assert isinstance(self.style, Tensor)
        return self.style

    def players(self) -> dict[str, Player]:
        return {"network": Player((self.network,), self.config.optim, self.network.ends)}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Equation 5, its parts as shares of what they would be if nothing were seen (``objective``)."""
        c, x = self.config, batch["image"]
        if c.shaken:
            x = shaken(x, batch.rng, c.shaken)
        painted = self.network(x)
        parts = self.objective(painted, x)
        if c.variation_weight:
            parts["variation"] = c.variation_weight * total_variation(painted.float(), power=2)
        yield Loss.sum("network", **parts)

    def objective(
        self, painted: Float[Tensor, "b c h w"], given: Float[Tensor, "b c h w"]
    ) -> dict[str, Float[Tensor, ""]]:
        """Both terms of equation 5: how far the content's maps are from the given picture's, and the Gram
        matrices from the style's, each layer as a share of the squared maps or matrices themselves.

        So one pair of weights serves every network that looks, whatever its numbers are.
        """
        c, layers = self.config, (self.config.content_layer, *self.config.style_layers)
        look = eyes(c.features, given.device)
        seen = look(three(painted), layers)
        with torch.no_grad():
            content = look(three(given), [c.content_layer])[c.content_layer].float()
        with torch.autocast(given.device.type, enabled=False):  # Gram matrices differ in their third digit
            maps = {layer: found.float() for layer, found in seen.items()}
            strayed = content_loss(maps[c.content_layer], content) / content.square().mean()
            style = torch.stack(
                [style_loss(maps, {layer: g}) / g.square().mean() for layer, g in self.targets(look).items()]
            )
        return {"content": c.content_weight * strayed, "style": c.style_weight * style.sum()}

    @torch.no_grad()
    def targets(self, look: VGG) -> dict[str, Float[Tensor, "1 d d"]]:
        """Gram matrices of the style."""
        if self._targets is None:
            style = self._style()
            if not bool(style.any()):
                raise DataError(
                    f"The style picture '{self.config.style}' is gone and no checkpoint holds it; put it "
                    "back, or train anew with --style."
                )
            with torch.autocast(style.device.type, enabled=False):
                maps = look(three(from_levels(style)[None]), self.config.style_layers)
            self._targets = {layer: gram(found.float()) for layer, found in maps.items()}
        return self._targets

    @torch.no_grad()
    def run(self, request: Stylize) -> Iterator[Event]:
        """Paint pictures of any size, without chance; ``strength`` blends pixels, a mask says where."""
        self._check(request)
        given = request.images
        painted = torch.empty(given.shape, dtype=torch.float32)
        together = max(1, self.config.whole // (given.shape[2] * given.shape[3]))
        firsts = range(0, len(given), together)
        for i, first in enumerate(firsts):
            part = slice(first, first + together)
            for done in self._paint(given[part], painted[part]):
                yield Progress((i + done) / len(firsts))
        before = given.float().cpu()
        painted = recoloured(painted, before) if request.keep_colour else painted.clamp_(-1, 1)
        share = request.strength if request.masks is None else request.strength * request.masks.float().cpu()
        answer = torch.lerp(before, painted, torch.as_tensor(share, dtype=torch.float32)).clamp_(-1, 1)
        yield Images(answer, seeds=tuple(range(request.seed, request.seed + len(given))))

    def _paint(self, given: Tensor, painted: Tensor) -> Iterator[float]:
        """Fill ``painted``; yields how far it has come."""
        c, height, width = self.config, given.shape[2], given.shape[3]
        if height * width <= c.whole:
            painted.copy_(self.network(given.to(self.device, self.dtype)))
            yield 1.0
            return
        squares = tiles(height, width, c.tile, self.network.reach)
        for i in range(len(given)):
            sample = mosaic(given[i : i + 1], c.whole // MOSAIC**2)
            statistics = self.network.statistics(sample.to(self.device, self.dtype))
            for k, square in enumerate(squares, start=1):
                part = square.read(given[i : i + 1]).to(self.device, self.dtype)
                square.write(self.network.with_statistics(part, statistics), painted[i : i + 1])
                yield (i + k / len(squares)) / len(given)

    def _check(self, request: Stylize) -> None:
        check(request, self.config.channels)
        without_search(request, "A fast style")
        if request.styles or request.weights:
            raise UsageError(
                "This model has learned one style and takes no other; leave styles and weights out, or use "
                "a model such as adain."
            )
        if request.style_scale != 1:
            raise UsageError(
                f"This model's strokes have the size it learned, got style_scale {request.style_scale}; "
                "scale the picture instead."
            )
        if request.masks is not None and len(request.masks) != 1:
            raise UsageError(f"One style needs one mask, got {len(request.masks)}; give one.")

    def portable(self) -> Portable:
        return Portable(InLevels(self.network), self.network.step)

    @classmethod
    def from_file(cls, path: Path) -> FastStyle:
        """A network of pytorch/examples (``candy.pth``, ``mosaic.pth`` ...); which style it learned only its
        name tells."""
        found = read_transformer(path)
        config = FastStyleConfig(
            channels=found.config.channels,
            style=path.stem,
            network=found.config,
            style_height=1,
            style_width=1,
        )
        with torch.device("meta"):
            network = ImageTransform(found.config)
        network.load_state_dict(dict(found.tensors), assign=True)
        system = cls(config)
        system.network = network
        return system


class InLevels(nn.Module):
    """A network for [-1, 1] as one for grey levels 0 to 255, which other programs have."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, picture: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return ((self.network(picture / 127.5 - 1) + 1) * 127.5).clamp(0, 255)


def shaken(x: Float[Tensor, "b c h w"], rng: Rng, share: float) -> Float[Tensor, "b c h w"]:
    """A share of pictures with every channel scaled and shifted by chance, mostly to less contrast."""
    chosen = (rng.uniform() < share).to(x.device).view(-1, 1, 1, 1)
    scale, shift = (rng.normal(x.shape[1], 1, 1).to(x) for _ in range(2))
    mean = x.mean((2, 3), keepdim=True)
    changed = (x - mean) * (FAINTER + FADING * scale).exp() + PALER * mean + TONE * shift
    return torch.where(chosen, changed.clamp(-1, 1), x)


def three(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h w"]:
    """Grey pictures as colourless ones, for networks that see colours."""
    return x.expand(-1, 3, -1, -1)


def mosaic(x: Float[Tensor, "1 c h w"], count: int) -> Float[Tensor, "n c i j"]:
    """About ``count`` squares spread evenly over a picture, at its own scale.

    A reduced picture has other statistics, because its edges are sharper: by them, answers differed twice as
    much from those that see the whole picture.
    """
    height, width = x.shape[2:]
    side = min(MOSAIC, height, width)
    rows = min(max(1, round((count * height / width) ** 0.5)), height // side)
    columns = min(max(1, round(count / rows)), width // side)
    corners = product(_spread(height, side, rows), _spread(width, side, columns))
    return torch.cat([x[:, :, top : top + side, left : left + side] for top, left in corners])


def _spread(length: int, side: int, count: int) -> list[int]:
    """Where ``count`` stretches begin that lie evenly, each in the middle of its share."""
    return [int((k + 0.5) * length / count - side / 2) for k in range(count)]


_LAPTOP = FastStyleConfig(
    style="texture:31",
    features="random",
    content_layer="relu2_2",
    shaken=0.75,
    network=ImageTransformConfig(width=16, bounded=True, contrast=True),
    optim=OptimConfig(kind="muon", lr=3e-3, clip=0.0, warmup=20, decay=0.4),
)
"""What a small network that has learned to see overlooks, nobody paints: through it, a flat sky got the style
in one glaring spot, and colours got lost. Random filters keep what they are given (as in ``adain.py``). Of a
picture of little contrast nothing is left under strokes of full contrast; norms would hide that it is one."""
FastStyle.presets = {
    "laptop": Preset(_LAPTOP, data="photographs", size=96, train=TrainConfig(steps=8000, batch=4, ema=0.99)),
    "paper": Preset(
        FastStyleConfig(
            style="texture:19",
            features="vgg16.pth",
            content_layer="relu2_2",
            style_layers=("relu1_2", "relu2_2", "relu3_3", "relu4_3"),
        ),
        data="folder",
        size=256,
        train=TrainConfig(steps=40_000, batch=4, ema=0.0),
    ),
}
