"""Generators as mmagic and BasicSR save them, opened by what is in the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate, leaky_relu, pixel_shuffle, relu

import sfumato
from sfumato.compat.msrresnet import read_generator
from sfumato.core.request import Images, Upscale
from sfumato.errors import DataError
from sfumato.nn.srresnet import SRResNet, SRResNetConfig

CONFIG = SRResNetConfig(width=6, blocks=2, kernel=3, norm=False, refine=True, skip="bilinear", unit=True)
X = torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(0))


def tensors() -> dict[str, Tensor]:
    network = SRResNet(CONFIG)
    generator = torch.Generator().manual_seed(1)
    return {n: torch.randn(t.shape, generator=generator) / 8 for n, t in network.state_dict().items()}


def basicsr(name: str) -> str:
    return (
        name.replace("trunk_net", "body")
        .replace("upsample1.upsample_conv", "upconv1")
        .replace("upsample2.upsample_conv", "upconv2")
    )


def saved(path: Path, kind: str) -> Path:
    given = tensors()
    held = {
        "mmagic": {"meta": {"epoch": 3}, "state_dict": {f"generator.{n}": t for n, t in given.items()}},
        "mmagic with critic": {
            "state_dict": {f"generator.{n}": t for n, t in given.items()} | {"discriminator.w": torch.ones(2)}
        },
        "basicsr": {"params": {basicsr(n): t for n, t in given.items()}},
        "plain": given,
    }
    torch.save(held[kind], path)
    return path


def by_hand(x: Tensor, t: dict[str, Tensor]) -> Tensor:
    """MSRResNet as BasicSR's file describes it, on pictures in [0, 1]."""

    def conv(h: Tensor, name: str) -> Tensor:
        return torch.nn.functional.conv2d(h, t[f"{name}.weight"], t[f"{name}.bias"], padding=1)

    h = leaky_relu(conv(x, "conv_first"), 0.1)
    for k in range(2):
        h = h + conv(relu(conv(h, f"trunk_net.{k}.conv1")), f"trunk_net.{k}.conv2")
    for k in (1, 2):
        h = leaky_relu(pixel_shuffle(conv(h, f"upsample{k}.upsample_conv"), 2), 0.1)
    return conv(leaky_relu(conv(h, "conv_hr"), 0.1), "conv_last") + interpolate(
        x, scale_factor=4, mode="bilinear", align_corners=False
    )


@pytest.mark.parametrize("kind", ["mmagic", "mmagic with critic", "basicsr", "plain"])
def test_a_file_opens_and_enlarges_as_its_makers_code_does(tmp_path, kind):
    path = saved(tmp_path / "net.pth", kind)
    assert read_generator(path).config == CONFIG
    *_, answer = sfumato.load(path, precision="fp32").run(Upscale(images=2 * X - 1, count=1))
    assert isinstance(answer, Images)
    assert torch.allclose(answer.pixels, (2 * by_hand(X, tensors()) - 1).clamp(-1, 1), atol=1e-4)


def test_a_folder_may_hold_one_file(tmp_path):
    saved(tmp_path / "net.pth", "plain")
    assert read_generator(tmp_path).config == CONFIG
    saved(tmp_path / "other.pth", "plain")
    with pytest.raises(DataError, match="holds 2 weight files; give the one of the generator"):
        read_generator(tmp_path)


def test_what_is_no_such_generator_is_refused(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"conv_first.weight": torch.ones(2)}, path)
    with pytest.raises(
        DataError, match=r"holds no MSRResNet: it has neither 'trunk_net\.0\.conv1\.weight' nor"
    ):
        read_generator(path)
    torch.save({n: t for n, t in tensors().items() if "upsample2" not in n}, path)
    with pytest.raises(DataError, match=r"that enlarges 4 times: 2 missing \(upsample2"):
        read_generator(path)
