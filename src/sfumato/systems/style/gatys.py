"""Neural style: a picture changes until a network sees the content of one picture and the style of another.

Gatys, Ecker, Bethge: Image Style Transfer Using Convolutional Neural Networks, CVPR 2016, arXiv 1508.06576.
The losses of each layer are divided by what they would be for a blank, so that one setting serves every
network, whatever its numbers are; the paper scales the network's weights for the same end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.perceptual import gram, recoloured, relative_loss, total_variation
from sfumato.core.request import Event, Images, Progress, Stylize
from sfumato.core.rng import Rng
from sfumato.core.system import Preset
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.vgg import VGG19, VGGConfig
from sfumato.systems.style.onlooker import Onlooker, at_least, colours, scaled
from sfumato.systems.style.vgg import SMALL, VGGNetConfig

Optimiser = Literal["lbfgs", "adam"]
PIXELS = "pixels"
"""Name of the layer before all."""
LARGEST_STYLE = 2048
"""Longer side to which a style is scaled at most."""
_NOISE = 0.5
"""Deviation of the noise from which a search may start."""
_TEXTURELESS = 4
"""Styles of so few pixels a side have colours, but no texture."""


@dataclass(frozen=True)
class GatysConfig:
    """The network, what is taken from its layers, and how the picture is searched."""

    network: VGGConfig = SMALL
    channels: int = 3
    content: tuple[str, ...] = ("relu3_2",)
    """Layers whose maps stay."""
    style: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    """Layers whose Gram matrices become those of the style."""
    content_weight: float = 1.0
    style_weight: float = 1.0
    """At strength 1."""
    colours: bool = True
    """Whether the pixels themselves, from 0 to 1, count as one more layer of style: a network that learned to
    overlook colours would not bring them over."""
    variation: float = 0.0
    """Weight of the total variation, which smooths."""
    gamut: float = 10.0
    """Weight of what lies outside the colours there are."""
    optimiser: Optimiser = "lbfgs"
    rate: float = 0.0
    """Learning rate; 0 for the optimiser's own: 1 for L-BFGS, 0.03 for Adam."""
    history: int = 20
    """Steps that L-BFGS remembers."""
    steps: int = 200
    """Closures: evaluations of loss and gradient."""


@dataclass(frozen=True)
class Aim:
    """What a picture shall become like."""

    content: Mapping[str, Tensor]
    style: Mapping[str, Tensor]
    """Gram matrices, blended."""
    style_weight: float


class Gatys(Onlooker[Stylize]):
    """Searches pictures one by one; there is nothing to train."""

    tasks = (Stylize,)
    Config = GatysConfig
    config: GatysConfig

    @classmethod
    def looking(cls, base: VGGNetConfig) -> GatysConfig:
        """Style from the first convolution of every stage, content from the second of the last but one, as in
        section 3 of the paper."""
        network = base.network
        stages = range(1, len(network.convs) + 1)
        at = max(1, len(network.convs) - 1)
        return GatysConfig(
            replace(network, classes=0, hidden=0),
            content=(f"relu{at}_{min(2, network.convs[at - 1])}",),
            style=tuple(f"relu{stage}_1" for stage in stages),
        )

    @classmethod
    def fit(cls, config: GatysConfig, facts: Facts) -> GatysConfig:
        return replace(config, channels=colours(facts))

    @property
    def taps(self) -> tuple[str, ...]:
        return (*self.config.content, *self.config.style)

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"style"})

    def run(self, request: Stylize) -> Iterator[Event]:
        """One picture after the other, with a look at each closure."""
        notes = self.check(request)
        steps = self.config.steps if request.steps is None else request.steps
        x = request.images.float()
        height, width = x.shape[2:]
        least = self.network.smallest(self.taps)
        whole = at_least(x, least).to(self.device)
        styles = self._grams(request, max(height, width))
        done = whole.clone()
        if request.start == "noise":
            noise = Rng.sampling(request.seed, len(x)).normal(*whole.shape[1:]).to(self.device)
            done = (_NOISE * noise).clamp(-1, 1)
        for i in range(len(x)):
            aim = self._aim(whole[i : i + 1], styles, request.strength)
            for k, pixels in enumerate(self._search(done[i : i + 1], aim, steps), 1):
                done[i] = pixels[0]
                yield Progress((i * steps + k) / (len(x) * steps), lambda: _shown(done, x, request))
        seeds = tuple(range(request.seed, request.seed + len(x)))
        yield Images(_shown(done, x, request), seeds=seeds, notes=notes)

    def check(self, request: Stylize) -> tuple[str, ...]:
        """Raise ``UsageError`` for what it cannot do; say what the user should know."""
        if not request.styles:
            raise UsageError("Neural style needs at least one style picture; give it with --style.")
        if request.masks is not None:
            raise UsageError("Neural style paints everywhere: leave the masks out, or use the method adain.")
        if request.steps is not None and request.steps < 1:
            raise UsageError(
                f"steps must be at least 1, got {request.steps}; leave it out for the system's own."
            )
        if not 0 <= request.strength < math.inf:
            raise UsageError(f"strength must be 0 or more and finite, got {request.strength:g}.")
        if not 0 < request.style_scale < math.inf:
            raise UsageError(f"style_scale must be above 0 and finite, got {request.style_scale:g}.")
        channels = request.images.shape[1]
        if odd := [style.shape[0] for style in request.styles if style.shape[0] != channels]:
            raise UsageError(
                f"The pictures have {channels} channels, but a style of {odd[0]}; convert it first."
            )
        request.shares()
        self.check_memory(*request.images.shape[2:])
        small = [tuple(s.shape[1:]) for s in request.styles if min(s.shape[1:]) < _TEXTURELESS]
        return tuple(
            f"a style of {h} x {w} pixels has no texture; only its colours are taken" for h, w in small
        )

    @torch.no_grad()
    def _grams(self, request: Stylize, side: int) -> dict[str, Tensor]:
        """Blended Gram matrices of the styles, each scaled to the picture's longer side times the scale."""
        least = self.network.smallest(self.taps)
        blended: dict[str, Tensor] = {}
        for picture, share in zip(request.styles, request.shares(), strict=True):
            height, width = picture.shape[1:]
            factor = min(LARGEST_STYLE, side * request.style_scale) / max(height, width)
            size = max(1, round(height * factor)), max(1, round(width * factor))
            style = at_least(scaled(picture[None].float(), *size), least)
            for tap, maps in self._seen(style, self.config.style).items():
                blended[tap] = blended.get(tap, 0) + share * gram(maps)
        return blended

    @torch.no_grad()
    def _aim(self, x: Float[Tensor, "1 c h w"], styles: Mapping[str, Tensor], strength: float) -> Aim:
        return Aim(self.maps(x, self.config.content), styles, self.config.style_weight * strength)

    def objective(self, x: Float[Tensor, "1 c h w"], aim: Aim) -> Float[Tensor, ""]:
        """Content plus style (eq. 7), each layer relative to a blank, and what keeps pictures pictures."""
        c = self.config
        maps = self._seen(x, self.taps)
        content = [relative_loss(maps[t], goal) for t, goal in aim.content.items()]
        style = [relative_loss(gram(maps[t]), goal) for t, goal in aim.style.items()]
        value = c.content_weight * torch.stack(content).mean() + aim.style_weight * torch.stack(style).mean()
        beyond = (x.abs() - 1).clamp(min=0).square().mean()
        return value + c.variation * total_variation(x) + c.gamut * beyond

    def _seen(self, x: Float[Tensor, "n c h w"], taps: tuple[str, ...]) -> dict[str, Tensor]:
        """Named maps, and the pixels if they count."""
        pixels = {PIXELS: (x.float() + 1) / 2} if self.config.colours else {}
        return self.maps(x, taps) | pixels

    def _search(self, start: Float[Tensor, "1 c h w"], aim: Aim, steps: int) -> Iterator[Tensor]:
        """The picture after each closure. A step that ends in NaN is taken back, and the search begins anew
        from the best picture, half as fast."""
        x = torch.nn.Parameter(start.detach().clone(memory_format=torch.contiguous_format))
        best, lowest, slower = x.detach().clone(), math.inf, 1.0
        optimiser = self._optimiser(x, slower)
        for _ in range(steps):
            before = x.detach().clone()
            loss = optimiser.step(lambda: self._closure(x, aim))
            if loss < lowest:
                best, lowest = before, loss
            if not math.isfinite(loss) or not bool(x.isfinite().all()):
                slower /= 2
                with torch.no_grad():
                    x.copy_(best)
                optimiser = self._optimiser(x, slower)
            yield x.detach()

    def _optimiser(self, x: torch.nn.Parameter, slower: float) -> torch.optim.Optimizer:
        """One closure a step, as L-BFGS makes it without a line search; no tolerance ends it early."""
        c = self.config
        if c.optimiser == "adam":
            return torch.optim.Adam([x], lr=slower * (c.rate or 0.03))
        return torch.optim.LBFGS(
            [x],
            lr=slower * (c.rate or 1.0),
            max_iter=1,
            history_size=c.history,
            tolerance_grad=-1,
            tolerance_change=-1,
        )

    @torch.enable_grad()
    def _closure(self, x: torch.nn.Parameter, aim: Aim) -> float:
        loss = self.objective(x, aim)
        x.grad = torch.autograd.grad(loss, x)[0].contiguous()
        return loss.item()


def _shown(done: Tensor, x: Float[Tensor, "n c h w"], request: Stylize) -> Float[Tensor, "n c h w"]:
    """Pictures as they are handed out: at their own size, in the colours there are, or in those they had."""
    pixels = done[:, :, : x.shape[2], : x.shape[3]].clamp(-1, 1)
    return recoloured(pixels, x.to(pixels)) if request.keep_colour else pixels.clone()


Gatys.presets = {
    "laptop": Preset(GatysConfig(), data="sights", size=48, base=("vgg", "laptop")),
    "paper": Preset(
        Gatys.looking(VGGNetConfig(replace(VGG19, pooling="avg"))),
        data="folder",
        size=512,
        base=("vgg", "paper"),
    ),
}
