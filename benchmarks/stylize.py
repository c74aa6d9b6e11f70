"""Seconds to paint a photograph of 512 x 512 pixels: fast style and AdaIN beside the networks they come from.

The others are the networks of pytorch/examples (1,679,235 parameters) and of pytorch-AdaIN (encoder to
relu4_1, decoder of 3,505,219), built here of PyTorch's own layers, with random weights, in fp32, without
gradients. Ours are whole requests: "published" has the same size, and its answer in fp32 is compared
with theirs first; "laptop" is what comes along. Each side has a process of its own, and all work in turn.

Example: python -m benchmarks.stylize --rounds 7
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.race import Side, Work, race, table
from sfumato import device
from sfumato.core.request import Images, Stylize
from sfumato.core.system import System
from sfumato.data.photos import open_photo
from sfumato.images import fit, to_tensor
from sfumato.nn.vgg import VGGConfig
from sfumato.systems.style.adain import AdaIN, AdaINConfig
from sfumato.systems.style.faststyle import FastStyle, FastStyleConfig

SIDE = 512
THREADS = 2
NORMALISED = VGGConfig(padding="reflect", ceil=True, first=True, convention="normalised")


def photograph(name: str) -> Tensor:
    """A photograph that no system was trained on, (1, 3, 512, 512) in [-1, 1]."""
    return to_tensor(fit(open_photo(name), SIDE, SIDE))[None]


# --- theirs ------------------------------------------------------------------------------------------


class Padded(nn.Module):
    """Repeat places if asked, reflect, convolve."""

    def __init__(self, wide: int, out: int, kernel: int, stride: int = 1, *, double: bool = False):
        super().__init__()
        self.before = nn.Upsample(scale_factor=2, mode="nearest") if double else nn.Identity()
        self.pad = nn.ReflectionPad2d(kernel // 2)
        self.conv = nn.Conv2d(wide, out, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pad(self.before(x)))


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        first = (Padded(width, width, 3), nn.InstanceNorm2d(width, affine=True), nn.ReLU())
        self.inner = nn.Sequential(*first, Padded(width, width, 3), nn.InstanceNorm2d(width, affine=True))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def transformer(width: int = 32, blocks: int = 5) -> nn.Sequential:
    """The network of pytorch/examples."""
    w = width
    shapes: list[tuple[int, int, int, int, bool]] = [(3, w, 9, 1, False), (w, 2 * w, 3, 2, False)]
    shapes += [(2 * w, 4 * w, 3, 2, False)]
    layers: list[nn.Module] = []
    for wide, out, kernel, stride, double in shapes:
        layers += [Padded(wide, out, kernel, stride, double=double), nn.InstanceNorm2d(out, affine=True)]
        layers.append(nn.ReLU())
    layers += [Residual(4 * w) for _ in range(blocks)]
    for wide, out in ((4 * w, 2 * w), (2 * w, w)):
        layers += [Padded(wide, out, 3, double=True), nn.InstanceNorm2d(out, affine=True), nn.ReLU()]
    return nn.Sequential(*layers, Padded(w, 3, 9))


def adain_networks() -> tuple[nn.Sequential, nn.Sequential]:
    """Encoder and decoder of pytorch-AdaIN."""
    encoder: list[nn.Module] = [nn.Conv2d(3, 3, 1)]
    wide = 3
    for stage, (width, count) in enumerate(((64, 2), (128, 2), (256, 4), (512, 1))):
        encoder += [nn.MaxPool2d(2, 2, ceil_mode=True)] if stage else []
        for _ in range(count):
            encoder += [Padded(wide, width, 3), nn.ReLU()]
            wide = width
    decoder: list[nn.Module] = []
    for out, double in (
        *((256, False), (256, True), (256, False), (256, False), (128, False)),
        *((128, True), (64, False), (64, True), (3, False)),
    ):
        decoder += [Padded(wide, out, 3, double=double), nn.ReLU()]
        wide = out
    return nn.Sequential(*encoder), nn.Sequential(*decoder[:-1])


def size(*networks: nn.Module) -> int:
    return sum(p.numel() for network in networks for p in network.parameters())


def their_fast() -> Work:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    network, x = transformer().eval(), photograph("coffee")
    assert size(network) == 1_679_235

    @torch.no_grad()
    def work() -> None:
        network((x + 1) * 127.5)

    return work


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    flat = x.flatten(2)
    return flat.mean(2)[:, :, None, None], (flat.var(2) + 1e-5).sqrt()[:, :, None, None]


def their_adain() -> Work:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    encoder, decoder = adain_networks()
    assert size(decoder) == 3_505_219
    content, style = ((photograph(name) + 1) / 2 for name in ("coffee", "temple"))

    @torch.no_grad()
    def work() -> None:
        maps, wanted = encoder(content), moments(encoder(style))
        own = moments(maps)
        decoder((maps - own[0]) / own[1] * wanted[1] + wanted[0])

    return work


# --- ours --------------------------------------------------------------------------------------------


def ready(system: System[Any], precision: device.Precision) -> System[Any]:
    """As ``load`` hands a system over."""
    dtype = device.dtype_of(precision, torch.device("cpu"))
    return system.to(torch.device("cpu"), dtype, memory_format=torch.channels_last).eval()


def asked(system: System[Any], request: Stylize) -> Tensor:
    with torch.no_grad():
        *_, answer = system.run(request)
    assert isinstance(answer, Images)
    return answer.pixels


def our_fast(published: bool, precision: device.Precision = "auto") -> Work:
    device.setup()
    torch.set_num_threads(THREADS)
    config = FastStyleConfig() if published else FastStyle.presets["laptop"].config
    system = ready(FastStyle(replace(config, style_height=1, style_width=1)), precision)
    request = Stylize(images=photograph("coffee"), count=1)
    return lambda: asked(system, request).std().item()


def our_adain(published: bool, precision: device.Precision = "auto") -> Work:
    device.setup()
    torch.set_num_threads(THREADS)
    config = AdaINConfig(features="none", encoder=NORMALISED) if published else AdaIN.presets["laptop"].config
    system = ready(AdaIN(config), precision)
    request = Stylize(images=photograph("coffee"), styles=(photograph("temple")[0],), count=1)
    return lambda: asked(system, request).std().item()


# --- both --------------------------------------------------------------------------------------------


@torch.no_grad()
def differences() -> tuple[float, float]:
    """How far our published networks are from theirs with the same weights, in fp32, in grey levels."""
    torch.manual_seed(0)
    x, y = photograph("coffee")[:, :, :160, :200], photograph("temple")[:, :, :128, :160]
    network, fast = transformer().eval(), FastStyle(FastStyleConfig(style_height=1, style_width=1)).eval()
    for ours, theirs in zip(fast.parameters(), network.parameters(), strict=True):
        ours.copy_(theirs)
    first = (asked(fast, Stylize(images=x, count=1)) - network(x).clamp(-1, 1)).abs().max()
    encoder, decoder = adain_networks()
    adain = AdaIN(AdaINConfig(features="none", encoder=NORMALISED)).eval()
    for ours, theirs in zip(adain.parameters(), (*encoder.parameters(), *decoder.parameters()), strict=True):
        ours.copy_(theirs)
    maps, wanted = encoder((x + 1) / 2), moments(encoder((y + 1) / 2))
    own = moments(maps)
    painted = decoder((maps - own[0]) / own[1] * wanted[1] + wanted[0]).clamp(-1, 1)
    second = (asked(adain, Stylize(images=x, styles=(y[0],), count=1)) - painted).abs().max()
    return first.item() * 127.5, second.item() * 127.5


def main() -> None:
    """Print differences, then both races."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print(
        "largest difference in grey levels, fp32, same weights: fast {:.1e}, AdaIN {:.1e}".format(
            *differences()
        )
    )
    for name, theirs, ours in (("fast style", their_fast, our_fast), ("AdaIN", their_adain, our_adain)):
        sides = [
            Side("theirs, fp32", theirs),
            Side("ours, published, fp32", partial(ours, True, "fp32")),
            Side("ours, published", partial(ours, True)),
            Side("ours, laptop", partial(ours, False)),
        ]
        race(sides, rounds)
        print(f"\n{name}, {SIDE} x {SIDE}, {THREADS} threads\n{table(sides)}")


if __name__ == "__main__":
    main()
