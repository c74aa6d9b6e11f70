"""Public files of both style transfers, made here under their names, paint what their code would."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, instance_norm, interpolate

from sfumato.apps.load import load
from sfumato.compat.adain import read_adain
from sfumato.compat.fast_style import read_transformer
from sfumato.core.request import Stylize
from sfumato.errors import DataError
from sfumato.systems.style.adain import AdaIN
from sfumato.systems.style.faststyle import FastStyle

WIDTH, BLOCKS = 3, 2


def transformer() -> dict[str, Tensor]:
    """As pytorch/examples saves it, with the averages that old versions counted."""
    torch.manual_seed(0)
    held: dict[str, Tensor] = {}

    def put(conv: str, norm: str, wide: int, out: int, kernel: int) -> None:
        layer = nn.Conv2d(wide, out, kernel)
        held[f"{conv}.conv2d.weight"], held[f"{conv}.conv2d.bias"] = layer.weight.data, layer.bias.data
        if norm:
            held[f"{norm}.weight"], held[f"{norm}.bias"] = torch.rand(out) + 0.5, torch.randn(out)
            held[f"{norm}.running_mean"], held[f"{norm}.running_var"] = torch.zeros(out), torch.ones(out)

    w = WIDTH
    for k, (wide, out, kernel) in enumerate(((3, w, 9), (w, 2 * w, 3), (2 * w, 4 * w, 3)), start=1):
        put(f"conv{k}", f"in{k}", wide, out, kernel)
    for k in range(1, BLOCKS + 1):
        for part in (1, 2):
            put(f"res{k}.conv{part}", f"res{k}.in{part}", 4 * w, 4 * w, 3)
    put("deconv1", "in4", 4 * w, 2 * w, 3)
    put("deconv2", "in5", 2 * w, w, 3)
    put("deconv3", "", w, 3, 9)
    held["deconv3.conv2d.weight"] *= 30
    held["deconv3.conv2d.bias"] += 120
    return held


def transformed(held: dict[str, Tensor], levels: Tensor) -> Tensor:
    """What that code makes of grey levels 0 to 255."""

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = held[f"{name}.conv2d.weight"]
        return conv2d(
            nn.ReflectionPad2d(weight.shape[-1] // 2)(x), weight, held[f"{name}.conv2d.bias"], stride
        )

    def norm(name: str, x: Tensor) -> Tensor:
        return instance_norm(x, weight=held[f"{name}.weight"], bias=held[f"{name}.bias"])

    x = levels
    for k in (1, 2, 3):
        x = norm(f"in{k}", conv(f"conv{k}", x, 1 if k == 1 else 2)).relu()
    for k in range(1, BLOCKS + 1):
        inner = norm(f"res{k}.in1", conv(f"res{k}.conv1", x)).relu()
        x = x + norm(f"res{k}.in2", conv(f"res{k}.conv2", inner))
    for k in (1, 2):
        x = norm(f"in{k + 3}", conv(f"deconv{k}", interpolate(x, scale_factor=2, mode="nearest"))).relu()
    return conv("deconv3", x)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_fast_style_of_pytorch_examples(tmp_path, prefix):
    held, file = transformer(), tmp_path / "candy.pth"
    torch.save({prefix + name: tensor for name, tensor in held.items()}, file)
    x = torch.rand(2, 3, 36, 44) * 2 - 1
    wanted = transformed(held, (x + 1) * 127.5).clamp(0, 255) / 127.5 - 1
    system = load(file, precision="fp32", device="cpu")
    assert isinstance(system, FastStyle)
    assert (system.config.network.width, system.config.network.blocks) == (WIDTH, BLOCKS)
    with torch.no_grad():
        *_, answer = system.run(Stylize(images=x, count=2))
    assert wanted.std() > 0.1
    assert (answer.pixels - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["decoder.pth", "decoder_iter_160000.pth.tar"])
def test_both_files_of_pytorch_adain(tmp_path, name):
    looks, paints = vgg_normalised(), decoder()
    torch.save(looks.state_dict(), tmp_path / "vgg_normalised.pth")
    torch.save(paints.state_dict(), tmp_path / name)
    content, style = torch.rand(1, 3, 40, 56), torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        c, s = (looks[:31](x) for x in (content, style))
        mean, std = ([f(x) for x in (c, s)] for f in (means, deviations))
        wanted = paints((c - mean[0]) / std[0] * std[1] + mean[1]).clamp(0, 1) * 2 - 1
    for place in (tmp_path / name, tmp_path):
        system = load(place, precision="fp32", device="cpu")
        assert isinstance(system, AdaIN)
        with torch.no_grad():
            *_, answer = system.run(Stylize(images=2 * content - 1, styles=(2 * style[0] - 1,), count=1))
        assert wanted.std() > 0.1
        assert (answer.pixels - wanted).abs().max() < 1e-4


def means(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


def deviations(x: Tensor) -> Tensor:
    return (x.flatten(2).var(2)[:, :, None, None] + 1e-5).sqrt()


def vgg_normalised() -> nn.Sequential:
    """Small, with the layers of the published one in its order: 31 up to relu4_1, 53 in all."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 3, 1)]
    wide = 3
    for stage, (width, count) in enumerate(((4, 2), (5, 2), (6, 4), (7, 4), (7, 4))):
        layers += [nn.MaxPool2d(2, 2, ceil_mode=True)] if stage else []
        for _ in range(count):
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(wide, width, 3), nn.ReLU()]
            wide = width
    assert len(layers) == 53
    return nn.Sequential(*layers)


def decoder() -> nn.Sequential:
    torch.manual_seed(1)
    layers: list[nn.Module] = []
    widths = [7, 6, None, 6, 6, 6, 5, None, 5, 4, None, 4, 3]
    wide = widths[0]
    for width in widths[1:]:
        if width is None:
            layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
        else:
            layers += [nn.ReflectionPad2d(1), nn.Conv2d(wide, width, 3), nn.ReLU()]
            wide = width
    layers.pop()
    layers[-1].weight.data *= 4
    return nn.Sequential(*layers)


def test_what_fits_nothing_is_refused(tmp_path):
    held = transformer()
    torch.save({n: t for n, t in held.items() if "conv1.conv2d" not in n}, tmp_path / "half.pth")
    with pytest.raises(DataError, match=r"holds no fast style: it has no 'conv1\.conv2d\.weight'"):
        read_transformer(tmp_path / "half.pth")
    torch.save(held | {"odd.weight": torch.ones(1)}, tmp_path / "odd.pth")
    with pytest.raises(DataError, match=r"holds no fast style that fits: .*odd.weight"):
        read_transformer(tmp_path / "odd.pth")


def test_decoders_that_stand_alone_or_fit_nothing_are_refused(tmp_path):
    torch.save(decoder().state_dict(), tmp_path / "decoder.pth")
    with pytest.raises(
        DataError, match=r"paints what 'vgg_normalised.pth' sees, which does not lie beside it"
    ):
        read_adain(tmp_path / "decoder.pth")
    torch.save(vgg_normalised().state_dict(), tmp_path / "vgg_normalised.pth")
    torch.save({}, tmp_path / "decoder_iter_5.pth.tar")
    with pytest.raises(DataError, match=r"holds 2 decoders .*; give one's path"):
        read_adain(tmp_path)
    (tmp_path / "decoder_iter_5.pth.tar").unlink()
    torch.save({n: t for n, t in decoder().state_dict().items() if n != "1.bias"}, tmp_path / "decoder.pth")
    with pytest.raises(DataError, match=r"is no decoder for what 'vgg_normalised\.pth' sees"):
        read_adain(tmp_path / "decoder.pth")
