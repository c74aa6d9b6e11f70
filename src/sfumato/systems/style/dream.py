"""DeepDream: a picture changes so that a network sees more of what it sees in it, at several sizes in turn.

Mordvintsev, Olah, Tyka: Inceptionism: Going Deeper into Neural Networks, Google Research Blog, 2015, and the
notebook published with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from sfumato.core.request import Dream, Event, Images, Progress, Video
from sfumato.core.rng import Rng
from sfumato.core.system import Preset
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError, nearest
from sfumato.nn.vgg import VGG19, VGGConfig
from sfumato.systems.style.onlooker import Onlooker, at_least, colours, scaled
from sfumato.systems.style.vgg import SMALL, VGGNetConfig

Energy = Callable[[Tensor], Tensor]
"""From a picture (1, 3, h, w) to the number that shall grow."""
GREY_LEVEL = 1 / 127.5
PUBLISHED = 1.5
"""Mean change of a pixel at each step, in grey levels, in the notebook."""
RATE = 12.0
"""Frames of a film a second."""
_GUIDE, _PLACES = 256, 4096
"""Longer side of a guide in pixels, and most places of it that are compared."""
_TINY = 1e-12


@dataclass(frozen=True)
class DreamConfig:
    """The network, what of it shall grow, and how the picture climbs."""

    network: VGGConfig = SMALL
    classes: tuple[str, ...] = ()
    """Names of the network's classes in order, where they are known."""
    channels: int = 3
    layers: tuple[str, ...] = ("relu3_3",)
    """Whose activity grows unless a request says otherwise."""
    octaves: int = 4
    """Sizes at which it dreams."""
    octave_scale: float = 1.4
    """From one to the next."""
    steps: int = 10
    """At each size."""
    jitter: int = 32
    """Most pixels by which the picture is shifted at each step, and at most half its side."""
    step: float = 0.3
    """Mean change of a pixel at each step, in grey levels. Published is 1.5; through a small network of this
    house that leaves nothing of the picture."""
    zoom: float = 0.05
    """Share of the picture that is left behind from one frame of a film to the next."""


@dataclass(frozen=True)
class Climb:
    """How far and in what strides a picture climbs."""

    octaves: int
    octave_scale: float
    steps: int
    jitter: int
    step: float
    least: int
    """Shortest side the network can see."""

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Of the octaves, the smallest first; those too small to be seen are left out."""
        sizes = [
            (round(height / self.octave_scale**k), round(width / self.octave_scale**k))
            for k in range(self.octaves)
        ]
        return [size for size in sizes[1:] if min(size) >= self.least][::-1] + sizes[:1]


class Dreamer(Onlooker[Dream]):
    """Dreams upon pictures one by one; there is nothing to train."""

    tasks = (Dream,)
    Config = DreamConfig
    config: DreamConfig

    @classmethod
    def looking(cls, base: VGGNetConfig) -> DreamConfig:
        """The last layer of the last stage but one; public networks in the published stride."""
        convs = base.network.convs
        at = max(1, len(convs) - 1)
        step = DreamConfig.step if base.network.convention == "unit" else PUBLISHED
        return DreamConfig(base.network, base.classes, layers=(f"relu{at}_{convs[at - 1]}",), step=step)

    @classmethod
    def fit(cls, config: DreamConfig, facts: Facts) -> DreamConfig:
        network = replace(config.network, classes=len(facts.classes))
        return replace(config, network=network, classes=facts.classes, channels=colours(facts))

    def run(self, request: Dream) -> Iterator[Event]:
        """One picture after the other, with a look at each step; a film frame by frame."""
        self.check(request)
        climb, x, energy = self.climb(request), request.images.float(), self.energy(request)
        height, width = x.shape[2:]
        done = at_least(x, climb.least).to(self.device).clone()
        films, frames = [], max(1, request.frames)
        for i in range(len(x)):
            rng, film = Rng([request.seed + i]), []
            for frame in range(frames):
                start = done[i : i + 1] if frame == 0 else fallen(done[i : i + 1], self.config.zoom)
                for share, pixels in dreamed(energy, start, climb, rng):
                    done[i] = pixels[0]
                    look = done[:, :, :height, :width].clone
                    yield Progress((i + (frame + share) / frames) / len(x), look)
                film.append(done[i, :, :height, :width].clone())
            films.append(torch.stack(film))
        seeds = tuple(range(request.seed, request.seed + len(x)))
        if request.frames:
            yield Video(torch.stack(films), RATE, seeds)
        else:
            yield Images(torch.stack(films)[:, 0], seeds)

    def check(self, request: Dream) -> None:
        """Raise ``UsageError`` for what it cannot do."""
        for name, least in (("octaves", 1), ("steps", 1), ("jitter", 0), ("frames", 0)):
            if (value := getattr(request, name)) is not None and value < least:
                raise UsageError(f"{name} must be at least {least}, got {value}.")
        aims = [request.label is not None, request.guide is not None, request.channel is not None]
        if sum(aims) > 1 or (request.label is not None and request.layers):
            raise UsageError("A dream has one aim: a label, a guide, or layers with or without a channel.")
        self.check_memory(*request.images.shape[2:])

    def climb(self, request: Dream) -> Climb:
        """The settings, where the request does not say otherwise."""
        c = self.config
        taps = (self.network.taps[-1],) if request.label is not None else self._layers(request)
        return Climb(
            octaves=c.octaves if request.octaves is None else request.octaves,
            octave_scale=c.octave_scale,
            steps=c.steps if request.steps is None else request.steps,
            jitter=c.jitter if request.jitter is None else request.jitter,
            step=c.step,
            least=self.network.smallest(taps),
        )

    def energy(self, request: Dream) -> Energy:
        """What shall grow: a class's logit, likeness to a guide, or half the mean square of maps."""
        if request.label is not None:
            label = self._label(request.label)
            return lambda x: self.network.classify(self._seen(x))[0, label].float()
        layers = self._layers(request)
        if request.guide is not None:
            return self._guided(request.guide, layers)
        channel = request.channel
        if channel is not None and not 0 <= channel < (most := min(map(self.network.channels_of, layers))):
            raise UsageError(f"{', '.join(layers)} has channels 0 to {most - 1}, not {channel}.")
        only = slice(None) if channel is None else slice(channel, channel + 1)
        return lambda x: sum_of(m[:, only].square().mean() / 2 for m in self.maps(x, layers).values())

    def _guided(self, guide: Float[Tensor, "c h w"], layers: tuple[str, ...]) -> Energy:
        """Each place grows towards the one of the guide that is most like it (the notebook's last part)."""
        factor = _GUIDE / max(guide.shape[1:])
        height, width = (max(1, round(side * min(1.0, factor))) for side in guide.shape[1:])
        small = at_least(scaled(guide[None].float(), height, width), self.network.smallest(layers))
        with torch.no_grad():
            found = {tap: m[0].flatten(1) for tap, m in self.maps(small.to(self.device), layers).items()}
        known = {tap: m[:, :: -(-m.shape[1] // _PLACES)] for tap, m in found.items()}
        return lambda x: sum_of(_likeness(m[0].flatten(1), known[t]) for t, m in self.maps(x, layers).items())

    def _layers(self, request: Dream) -> tuple[str, ...]:
        return request.layers or self.config.layers

    def _seen(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1).to(self.device, self.dtype)

    def _label(self, label: int | str) -> int:
        names, count = self.config.classes, self.config.network.classes
        if isinstance(label, str) and label in names:
            return names.index(label)
        if isinstance(label, str) and not label.isdecimal():
            raise UsageError(f"This network knows no class '{label}'{nearest(label, names) if names else ''}")
        if not 0 <= int(label) < count:
            known = f"classes 0 to {count - 1}" if count else "no classes; dream of its layers instead"
            raise UsageError(f"This network knows {known}; there is no class {label}.")
        return int(label)


def sum_of(parts: Iterable[Tensor]) -> Float[Tensor, ""]:
    return torch.stack(list(parts)).sum()


def _likeness(maps: Float[Tensor, "c p"], known: Float[Tensor, "c q"]) -> Float[Tensor, ""]:
    """Mean product of each place with the best of those known."""
    with torch.no_grad():
        best = [(part.T @ known).argmax(1) for part in maps.split(_PLACES, dim=1)]
        goal = known[:, torch.cat(best)]
    return (maps * goal).mean()


def dreamed(
    energy: Energy, x: Float[Tensor, "1 c h w"], climb: Climb, rng: Rng
) -> Iterator[tuple[float, Float[Tensor, "1 c h w"]]]:
    """After each step, the share of the way that is done and the whole picture.

    What was dreamed at one size, not the picture, is enlarged and added to the picture at the next.
    """
    sizes = climb.sizes(*x.shape[2:])
    detail = torch.zeros_like(x)
    for octave, size in enumerate(sizes):
        base = scaled(x, *size)
        seen = (base + resized(detail, *size)).clamp(-1, 1)
        for k in range(climb.steps):
            seen = stepped(energy, seen, climb, rng)
            whole = (
                seen if octave == len(sizes) - 1 else (x + resized(seen - base, *x.shape[2:])).clamp(-1, 1)
            )
            yield (octave + (k + 1) / climb.steps) / len(sizes), whole
        detail = seen - base


def stepped(energy: Energy, x: Float[Tensor, "1 c h w"], climb: Climb, rng: Rng) -> Float[Tensor, "1 c h w"]:
    """One step up: shifted at random, along the gradient over its mean absolute value, shifted back."""
    shifts = [min(climb.jitter, side // 2) for side in x.shape[2:]]
    by = [int(rng.integers(-most, most + 1)) for most in shifts]
    shifted = x.roll(by, (2, 3))
    slope = _slope(energy, shifted)
    shifted = shifted + climb.step * GREY_LEVEL * slope / slope.abs().mean().clamp(min=_TINY)
    return shifted.roll([-shift for shift in by], (2, 3)).clamp(-1, 1)


@torch.enable_grad()
def _slope(energy: Energy, x: Tensor) -> Tensor:
    seen = x.detach().requires_grad_()
    return torch.autograd.grad(energy(seen), seen)[0]


def resized(x: Float[Tensor, "1 c h w"], height: int, width: int) -> Float[Tensor, "1 c i j"]:
    """Differences of pictures at another size."""
    if x.shape[2:] == (height, width):
        return x
    return interpolate(x, (height, width), mode="bilinear", align_corners=False)


def fallen(x: Float[Tensor, "1 c h w"], zoom: float) -> Float[Tensor, "1 c h w"]:
    """The middle of a picture, enlarged to its size."""
    turn = torch.tensor([[[1 - zoom, 0.0, 0.0], [0.0, 1 - zoom, 0.0]]], device=x.device)
    places = affine_grid(turn, list(x.shape), align_corners=False)
    return grid_sample(x, places, mode="bilinear", padding_mode="border", align_corners=False)


Dreamer.presets = {
    "laptop": Preset(DreamConfig(), data="sights", size=48, base=("vgg", "laptop")),
    "published": Preset(
        Dreamer.looking(VGGNetConfig(replace(VGG19, classes=1000, hidden=4096))),
        data="folder",
        size=224,
        base=("vgg", "paper"),
    ),
}
"""The notebook dreams through GoogLeNet; here it is VGG-19."""
