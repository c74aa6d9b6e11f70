"""Weight files of VGG as torchvision, Caffe's porters and AdaIN's authors wrote them, at small widths."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import relu

import sfumato
from sfumato.compat.torchvision import read_vgg
from sfumato.errors import DataError
from sfumato.nn.vgg import VGG, VGGConfig
from sfumato.systems.style.vgg import VGGNet

WIDTHS = (3, 4, 5, 6, 6)
PLACES = {
    16: (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    19: (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
"""Of the convolutions among torchvision's layers, written down from its configurations D and E."""
NORMALISED = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)
"""Of the convolutions of vgg_normalised.pth behind its first, written down from AdaIN's net.py."""
STAGES = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def convolutions(depth: int) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(depth)
    wide, out = 3, []
    for width, count in zip(WIDTHS, STAGES[depth], strict=True):
        for _ in range(count):
            weight = torch.randn(width, wide, 3, 3, generator=draw) / (wide * 9) ** 0.5
            out.append((weight, torch.randn(width, generator=draw) * 0.1))
            wide = width
    return out


def torchvision(depth: int, *, head: tuple[int, int, int] | None = (0, 3, 6)) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = OrderedDict()
    for place, (weight, bias) in zip(PLACES[depth], convolutions(depth), strict=True):
        tensors |= {f"features.{place}.weight": weight, f"features.{place}.bias": bias}
    sizes = ((7, WIDTHS[-1] * 49), (7, 7), (10, 7))
    for place, (out, wide) in zip(head or (), sizes, strict=False):
        tensors |= {
            f"classifier.{place}.weight": torch.ones(out, wide),
            f"classifier.{place}.bias": torch.ones(out),
        }
    return tensors


def saved(tensors: dict[str, Tensor], path: Path) -> Path:
    torch.save(tensors, path)
    return path


def picture() -> Tensor:
    return torch.rand(1, 3, 50, 39, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("depth", [16, 19])
@pytest.mark.parametrize(("head", "convention"), [((0, 3, 6), "imagenet"), ((1, 4, 6), "caffe")])
def test_both_files_with_a_classifier_are_told_apart_and_read(tmp_path, depth, head, convention):
    given = torchvision(depth, head=head)
    held = read_vgg(saved(given, tmp_path / "vgg.pth"))
    assert held.config == VGGConfig(WIDTHS, STAGES[depth], convention=convention, classes=10, hidden=7)
    system = sfumato.load(tmp_path / "vgg.pth", precision="fp32", device="cpu")
    assert isinstance(system, VGGNet)
    features = [given[name] for name in given if name.startswith("features")]
    assert all(torch.equal(p, q) for p, q in zip(system.network.features.parameters(), features, strict=True))
    assert system.classify(picture()).shape == (1, 10)


def test_the_normalised_network_sees_what_its_own_layers_in_a_row_see(tmp_path):
    first = (
        torch.randn(3, 3, 1, 1, generator=torch.Generator().manual_seed(1)),
        torch.tensor([0.1, -0.2, 0.3]),
    )
    tensors = {"0.weight": first[0], "0.bias": first[1]}
    row: list[nn.Module] = [conv(*first, 1)]
    for place, (weight, bias) in zip(NORMALISED, convolutions(19), strict=True):
        while len(row) < place - 1:
            row.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        row += [nn.ReflectionPad2d(1), conv(weight, bias, 3), nn.ReLU()]
        tensors |= {f"{place}.weight": weight, f"{place}.bias": bias}
    assert [k for k, layer in enumerate(row) if isinstance(layer, nn.Conv2d)] == [0, *NORMALISED]
    held = read_vgg(saved(tensors, tmp_path / "vgg_normalised.pth"))
    net = VGG(held.config)
    net.load_state_dict(dict(held.tensors))
    wanted = nn.Sequential(*row[:31])((picture() + 1) / 2)
    torch.testing.assert_close(net(picture(), ["relu4_1"])["relu4_1"], wanted)
    assert wanted.shape[2:] == (7, 5), "poolings round up"


def conv(weight: Tensor, bias: Tensor, side: int) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], side)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer.requires_grad_(False)


def test_the_first_maps_see_caffes_colours(tmp_path):
    given = torchvision(16, head=(1, 4, 6))
    held = read_vgg(saved(given, tmp_path / "vgg16-00b39a1b.pth"))
    net = VGG(held.config)
    net.load_state_dict(dict(held.tensors))
    levels = ((picture() + 1) * 127.5)[:, [2, 1, 0]] - torch.tensor([103.939, 116.779, 123.68]).view(
        1, 3, 1, 1
    )
    wanted = relu(
        nn.functional.conv2d(levels, given["features.0.weight"], given["features.0.bias"], padding=1)
    )
    torch.testing.assert_close(net(picture(), ["relu1_1"])["relu1_1"], wanted, atol=1e-4, rtol=1e-4)


def test_safetensors_may_name_the_convention(tmp_path):
    path = tmp_path / "vgg.safetensors"
    tensors = torchvision(16, head=None)
    save_file(tensors, path, {"convention": "caffe"})
    assert read_vgg(path).config == VGGConfig(WIDTHS, STAGES[16], convention="caffe")
    save_file(tensors, path, {"convention": "bgr"})
    with pytest.raises(DataError, match="names the convention 'bgr'; known are unit, imagenet"):
        read_vgg(path)
    save_file(tensors, path)
    with pytest.raises(DataError, match="has no classifier, so it does not tell"):
        read_vgg(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="no whole safetensors file"):
        read_vgg(path)


def test_other_networks_are_refused(tmp_path):
    path = tmp_path / "net.pth"
    with pytest.raises(DataError, match="holds no VGG: it has neither"):
        read_vgg(saved({"conv1.weight": torch.ones(2, 3, 3, 3)}, path))
    normed = {"features.0.weight": torch.ones(2, 3, 3, 3), "features.3.weight": torch.ones(2, 2, 3, 3)}
    normed |= {"features.7.weight": torch.ones(2, 2, 3, 3), "classifier.0.weight": torch.ones(2, 98)}
    with pytest.raises(DataError, match=r"3 and 7 are 4 layers apart.* batch norm"):
        read_vgg(saved(normed, path))
    short = torchvision(16)
    del short["features.12.bias"]
    with pytest.raises(DataError, match=r"1 missing \(features.12.bias\)"):
        read_vgg(saved(short, path))
