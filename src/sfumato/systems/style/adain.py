"""AdaIN: a picture takes on any other's style in one pass, by the statistics of what a network sees in it.

Huang, Belongie: Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV 2017, arXiv
1703.06868. A frozen VGG looks at both, the maps of one get the means and deviations of the other, and a
decoder that has learned to paint from maps makes a picture of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, mse_loss, pad

from sfumato.compat.adain import PUBLISHED, read_adain
from sfumato.core.colour import matched
from sfumato.core.perceptual import EPS, Moments, content_loss, moments, moments_loss
from sfumato.core.request import Event, Images, Progress, Stylize
from sfumato.core.stylize import check, share_of, without_search
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.core.tiles import tiles
from sfumato.data.dataset import Dataset, Facts
from sfumato.errors import UsageError
from sfumato.nn.adain import Decoder, adain, copied, reach_of, up_to
from sfumato.nn.vgg import VGG, VGGConfig
from sfumato.systems.style.eyes import comes_along, eyes
from sfumato.systems.style.faststyle import three
from sfumato.systems.style.vgg import SMALL

Work = Generator[float, None, Tensor]
"""Tells how far it has come, and returns its result."""


@dataclass(frozen=True)
class AdaINConfig:
    """What looks, where styles are exchanged, and what the decoder descends."""

    channels: int = 3
    features: str = "vgg-small"
    """The network that looks: a model that comes along, a run of vgg, or a public weight file."""
    encoder: VGGConfig = SMALL
    """Its shape, which is fitted to it, up to the layer."""
    layer: str = "relu4_1"
    """Where styles are exchanged."""
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    """Whose means and deviations should be the style's (equation 13)."""
    style_weight: float = 10.0
    """Lambda of equation 11."""
    pixel_weight: float = 0.0
    """Of the squared error of a picture that is decoded from its own maps; not in the paper."""
    colours: bool = False
    """Whether the painted picture gets the style's mean and deviation of each colour, as if it were one more
    layer in which styles are exchanged; not in the paper."""
    optim: OptimConfig = OptimConfig(lr=1e-4, clip=0.0)
    tile: int = 1024
    """Pixels a side of the squares in which large pictures are seen and painted, without a seam."""


class AdaIN(System[Stylize]):
    """A frozen encoder, and a decoder that learns."""

    tasks = (Stylize,)
    needs = frozenset({"a", "b"})
    Config = AdaINConfig
    published = PUBLISHED

    def __init__(self, config: AdaINConfig):
        super().__init__()
        self.config = c = config
        self.encoder = VGG(up_to(c.encoder, c.layer)).requires_grad_(False)
        if comes_along(c.features):
            copied(self.encoder, eyes(c.features))
        self.decoder = Decoder(c.encoder, c.layer, c.channels)
        self.step = 2 ** (len(self.encoder.config.widths) - 1)
        """Pixels a side of one place of the maps."""
        if c.tile < self.step or c.tile % self.step:
            raise UsageError(
                f"Tiles are multiples of {self.step} pixels a side, got {c.tile}; 1024 is usual."
            )

    @classmethod
    def fit(cls, config: AdaINConfig, facts: Facts) -> AdaINConfig:
        whole = eyes(config.features)
        whole.smallest(config.style_layers)
        return replace(config, channels=facts.channels, encoder=up_to(whole.config, config.layer))

    def prepare(self, data: Dataset) -> Dataset:
        """Take over the network that looks, if it is a user's file, which a run then needs no more."""
        if not comes_along(self.config.features) and Path(self.config.features).expanduser().exists():
            copied(self.encoder, eyes(self.config.features))
        return data

    def players(self) -> dict[str, Player]:
        return {"decoder": Player((self.decoder,), self.config.optim, (self.decoder.convs[-1],))}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Equations 11 to 13: "a" is to be painted in the styles of "b".

        Each layer's error is a share of what it would be if nothing were seen, so that one weight serves
        every network.
        """
        c, given, style = self.config, self._whole_places(batch["a"]), three(batch["b"])
        layers = tuple(dict.fromkeys((c.layer, *c.style_layers)))
        with torch.no_grad():
            own = self.encoder(three(given), [c.layer])[c.layer].float()
            wanted = {layer: moments(maps.float()) for layer, maps in self.encoder(style, layers).items()}
            target = adain(own, moments(own), wanted[c.layer])
        painted = three(self.decoder(target).float())
        if c.colours:
            painted = adain(painted, moments(painted), moments(style))
        seen = self.encoder(painted, layers)
        far = [
            moments_loss(seen[layer].float(), wanted[layer]) / size_of(wanted[layer])
            for layer in c.style_layers
        ]
        parts = {
            "content": content_loss(seen[c.layer].float(), target) / target.square().mean(),
            "style": c.style_weight * torch.stack(far).sum(),
        }
        if c.pixel_weight:
            parts["pixel"] = c.pixel_weight * mse_loss(self.decoder(own).float(), given)
        yield Loss.sum("decoder", **parts)

    def _whole_places(self, x: Tensor) -> Tensor:
        """The upper left part whose maps have whole places."""
        return x[:, :, : x.shape[2] // self.step * self.step, : x.shape[3] // self.step * self.step]

    @torch.no_grad()
    def run(self, request: Stylize) -> Iterator[Event]:
        """Paint pictures of any size, each alone, without chance; ``strength`` is the paper's alpha (eq. 14).

        Several styles are mixed by their weights, where masks are given only within them. With
        ``keep_colour`` styles get the colours of the picture before they are looked at.
        """
        self._check(request)
        shares, count = request.shares(), len(request.images)
        scaled = [self._style(style, request.style_scale) for style in request.styles]
        fixed = None if request.keep_colour else self._moments(scaled)
        answers: list[Tensor] = []
        for i, x in enumerate(request.images.split(1)):
            x = x.float().cpu()
            wanted, colours = fixed or self._moments([matched(style, x[0]) for style in scaled])
            large = self._enlarged(x)
            maps = yield from self._told(self._see(large), i / count, 0.5 / count)
            masks = None if request.masks is None else self._cover(request.masks, large, maps)
            maps = exchanged(maps, wanted, shares, masks, request.strength)
            painted = yield from self._told(self._paint(maps), (i + 0.5) / count, 0.5 / count)
            painted = painted[:, :, : x.shape[2], : x.shape[3]]
            if self.config.colours:
                painted = exchanged(painted, colours, shares, request.masks, request.strength)
            answers.append(painted.clamp(-1, 1))
        yield Images(torch.cat(answers), seeds=tuple(range(request.seed, request.seed + count)))

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"style"})

    def _check(self, request: Stylize) -> None:
        check(request, self.config.channels)
        without_search(request, "AdaIN")
        if not request.styles:
            raise UsageError("AdaIN takes the style of a picture, but none was given; give one or more.")
        if request.masks is not None and len(request.masks) != len(request.styles):
            raise UsageError(
                f"There are {len(request.masks)} masks for {len(request.styles)} styles; give one for each."
            )
        if request.masks is not None and bool((request.masks.flatten(1).amax(1) <= 0).any()):
            raise UsageError("A mask is 0 everywhere, so its style applies nowhere; leave both out.")

    def _style(self, style: Tensor, scale: float) -> Tensor:
        """A style as large as it shall be; a ``UsageError`` if nothing can be seen of it."""
        size = tuple(max(1, round(side * scale)) for side in style.shape[1:])
        least = self.encoder.smallest([self.config.layer])
        if min(size) < least:
            raise UsageError(
                f"A style of {size[0]} x {size[1]} pixels is too small to have strokes; give one of {least} "
                "pixels a side or more, or a larger style_scale."
            )
        x = style.float().cpu()
        if scale == 1:
            return x
        return interpolate(x[None], size, mode="bicubic", antialias=True)[0].clamp(-1, 1)

    def _moments(self, styles: Sequence[Tensor]) -> tuple[list[Moments], list[Moments]]:
        """Of the maps of styles, and of their colours."""
        seen = [moments(_all(self._see(self._enlarged(style[None]))).float()) for style in styles]
        return seen, [moments(style[None]) for style in styles]

    def _enlarged(self, x: Tensor) -> Tensor:
        """A picture continued by its last row and column until its maps have whole places."""
        least = self.encoder.smallest([self.config.layer])
        missing = [max(least, -(-side // self.step) * self.step) - side for side in x.shape[2:]]
        return pad(x, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else x

    def _see(self, x: Tensor) -> Work:
        """The maps of a picture, square by square; what lies around is seen as in the whole."""
        c, step = self.config, self.step
        rows, columns = (side // step for side in x.shape[2:])
        reach = -(-reach_of(c.encoder, c.layer) // step)
        maps = torch.empty(
            1, self.encoder.channels_of(c.layer), rows, columns, dtype=self.dtype, device=self.device
        )
        squares = tiles(rows, columns, c.tile // step, reach)
        for done, square in enumerate(squares, start=1):
            part = three(square.read(x, step)).to(self.device, self.dtype)
            square.write(self.encoder(part, [c.layer])[c.layer], maps)
            yield done / len(squares)
        return maps

    def _paint(self, maps: Tensor) -> Work:
        c, step = self.config, self.step
        rows, columns = maps.shape[2:]
        painted = torch.empty(1, c.channels, step * rows, step * columns)
        squares = tiles(rows, columns, c.tile // step, -(-reach_of(c.encoder, c.layer) // step) + 1)
        for done, square in enumerate(squares, start=1):
            square.write(self.decoder(square.read(maps)).float(), painted, step)
            yield done / len(squares)
        return painted

    def _cover(self, masks: Tensor, large: Tensor, maps: Tensor) -> Tensor:
        """Masks at the size of the maps."""
        height, width = (a - b for a, b in zip(large.shape[2:], masks.shape[2:], strict=True))
        whole = pad(masks.float(), (0, width, 0, height), mode="replicate")
        return share_of(whole, (maps.shape[2], maps.shape[3])).to(maps.device)

    def _told(self, work: Work, start: float, share: float) -> Generator[Progress, None, Tensor]:
        """Tell how far a part has come as progress of the whole."""
        while True:
            try:
                done = next(work)
            except StopIteration as end:
                return end.value
            yield Progress(min(1.0, start + share * done))

    @classmethod
    def from_file(cls, path: Path) -> AdaIN:
        """A ``decoder.pth`` of pytorch-AdaIN with ``vgg_normalised.pth`` beside it, or their folder."""
        held = read_adain(path)
        config = AdaINConfig(features="vgg_normalised", encoder=held.encoder, layer=held.layer)
        with torch.device("meta"):
            system = cls(config)
        system.encoder.load_state_dict(dict(held.looking), assign=True)
        system.decoder.load_state_dict(dict(held.painting), assign=True)
        system.encoder.requires_grad_(False)
        return system


def size_of(found: Moments) -> Float[Tensor, ""]:
    """Mean squares of means and of deviations, together."""
    return found.mean.square().mean() + found.std.square().mean()


def exchanged(
    maps: Float[Tensor, "1 c h w"],
    wanted: Sequence[Moments],
    shares: Sequence[float],
    masks: Float[Tensor, "s 1 h w"] | None,
    strength: float,
) -> Float[Tensor, "1 c h w"]:
    """Maps with the statistics of styles: the mean of equation 8 over styles by their shares (eq. 15), which
    goes ``strength`` of the way there (eq. 14).

    With masks, a style takes the place of the content's statistics within its mask, and where no mask is
    nothing changes (section 7.3, spatial control).
    """
    x = maps.float()
    if masks is None:
        own, style = moments(x), _mixed(wanted, shares)
        reached = Moments(own.mean.lerp(style.mean, strength), own.std.lerp(style.std, strength))
        return adain(x, own, reached).to(maps.dtype)
    weights = [share * mask for share, mask in zip(shares, masks, strict=True)]
    total = torch.stack(weights).sum(0)
    painted = torch.zeros_like(x)
    for weight, mask, style in zip(weights, masks, wanted, strict=True):
        painted += weight / total.clamp(min=1e-6) * adain(x, inside(x, mask), style)
    cover = torch.stack(list(masks)).amax(0)
    return torch.lerp(x, painted, strength * cover * (total > 0)).to(maps.dtype)


def _mixed(found: Sequence[Moments], shares: Sequence[float]) -> Moments:
    """Means and deviations of several styles by their shares."""
    weights = found[0].mean.new_tensor(shares).view(-1, 1, 1, 1)
    return Moments(*((torch.cat(kind) * weights).sum(0, keepdim=True) for kind in zip(*found, strict=True)))


def inside(x: Float[Tensor, "1 c h w"], mask: Float[Tensor, "1 h w"]) -> Moments:
    """Mean and deviation of maps over the places of a mask."""
    total = mask.sum()
    mean = (x * mask).sum((2, 3), keepdim=True) / total
    variance = ((x - mean).square() * mask).sum((2, 3), keepdim=True) / (total - 1).clamp(min=1)
    return Moments(mean, (variance + EPS).sqrt())


def _all(work: Work) -> Tensor:
    """The result of work of which nobody wants to know how far it has come."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


_LAPTOP = AdaINConfig(
    features="random",
    layer="relu2_1",
    style_layers=("relu1_1", "relu2_1"),
    pixel_weight=10.0,
    colours=True,
    optim=OptimConfig(kind="muon", lr=6e-3, clip=1.0, warmup=20, decay=0.5),
)
"""A small network that learned to see through changes of colour has forgotten them by its third stage, and no
decoder brings them back; random filters keep what they are given (He, Wang, Hopcroft 2016). Behind the second
stage edges stay where they were; behind the third, patterns begin to come along, and fringes with them. So
small a decoder misses the style's colours, unless they are exchanged once more in what it has painted."""
AdaIN.presets = {
    "laptop": Preset(_LAPTOP, data="stylings", size=64, train=TrainConfig(steps=4000, batch=8, ema=0.99)),
    "paper": Preset(
        AdaINConfig(
            features="vgg_normalised.pth",
            encoder=replace(VGGConfig(), padding="reflect", ceil=True, first=True, convention="normalised"),
        ),
        data="folder",
        size=256,
        train=TrainConfig(steps=160_000, batch=8, ema=0.0),
    ),
}
