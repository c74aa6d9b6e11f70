"""OpenAI's dVAE from two modules pickled whole, against their formulas; no code of theirs is run."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, max_pool2d, one_hot, relu

from sfumato.apps.load import load
from sfumato.compat.dvae import read
from sfumato.core.request import Reconstruct
from sfumato.errors import DataError
from sfumato.nn.dvae import DVAEConfig, DVAEDecoder, DVAEEncoder

CODES, CODE, WIDTH, LEVELS, BLOCKS = 11, 5, 8, 3, 2
X = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Trap:
    """An object that would run a command if it were unpickled."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def conv(before: int, after: int, kernel: int) -> nn.Module:
    made = types.new_class("Conv2d", (nn.Module,))()
    made.w = nn.Parameter(torch.randn(after, before, kernel, kernel) * (before * kernel**2) ** -0.5)
    made.b = nn.Parameter(torch.randn(after) * 0.2)
    return made


def block(before: int, after: int, kernels: tuple[int, ...]) -> nn.Module:
    made, sizes = nn.Module(), [before, *[after // 4] * 3, after]
    made.id_path = conv(before, after, 1) if before != after else nn.Identity()
    made.res_path = nn.Module()
    for i, kernel in enumerate(kernels):
        made.res_path.add_module(f"conv_{i + 1}", conv(sizes[i], sizes[i + 1], kernel))
    return made


def published(half: str) -> nn.Module:
    """A module with the names of the published file."""
    widths = [WIDTH * 2**i for i in range(LEVELS)]
    made, kernels = nn.Module(), (3, 3, 3, 1) if half == "encoder" else (1, 3, 3, 3)
    made.blocks = nn.Module()
    if half == "encoder":
        made.blocks.add_module("input", conv(3, WIDTH, 7))
        before, last = WIDTH, conv(widths[-1], CODES, 1)
    else:
        widths.reverse()
        made.blocks.add_module("input", conv(CODES, CODE, 1))
        before, last = CODE, conv(WIDTH, 6, 1)
    for i, width in enumerate(widths, start=1):
        group = nn.Module()
        for j in range(1, BLOCKS + 1):
            group.add_module(f"block_{j}", block(before, width, kernels))
            before = width
        made.blocks.add_module(f"group_{i}", group)
    made.blocks.add_module("output", nn.Module())
    made.blocks.output.add_module("conv", last)
    return made


@pytest.fixture
def files(tmp_path) -> tuple[Path, dict[str, dict[str, Tensor]]]:
    """A folder with both files, of classes that are gone when they are read, and their tensors."""
    torch.manual_seed(3)
    package = types.ModuleType("dall_e_of_a_test")
    sys.modules["dall_e_of_a_test"] = package
    tensors = {}
    for half in ("encoder", "decoder"):
        module = published(half)
        module.notes = Trap(tmp_path / "trapped")
        for part in module.modules():
            if type(part).__name__ in ("Conv2d", "Module"):
                kind = type(part).__name__
                held = getattr(package, kind, None) or type(
                    kind, (nn.Module,), {"__module__": "dall_e_of_a_test", "__qualname__": kind}
                )
                setattr(package, kind, held)
                part.__class__ = held
        torch.save(module, tmp_path / f"{half}.pkl")
        tensors[half] = {name: p.detach() for name, p in module.named_parameters()}
    del sys.modules["dall_e_of_a_test"]
    return tmp_path, tensors


def through(held: dict[str, Tensor], x: Tensor, half: str) -> Tensor:
    """What the published code computes, in functions."""

    def layer(name: str, x: Tensor) -> Tensor:
        weight = held[f"{name}.w"]
        return conv2d(x, weight, held[f"{name}.b"], padding=weight.shape[2] // 2)

    x = layer("blocks.input", x)
    for i in range(1, LEVELS + 1):
        for j in range(1, BLOCKS + 1):
            name = f"blocks.group_{i}.block_{j}"
            h = x
            for k in range(1, 5):
                h = layer(f"{name}.res_path.conv_{k}", relu(h))
            x = (layer(f"{name}.id_path", x) if f"{name}.id_path.w" in held else x) + h / (
                LEVELS * BLOCKS
            ) ** 2
        if i < LEVELS:
            x = max_pool2d(x, 2) if half == "encoder" else interpolate(x, scale_factor=2, mode="nearest")
    return layer("blocks.output.conv", relu(x))


@torch.no_grad()
def test_the_published_files_answer_as_their_formulas_say(files):
    folder, held = files
    system = load(folder, precision="fp32", device="cpu")
    logits = through(held["encoder"], 0.8 * (X + 1) / 2 + 0.1, "encoder")
    assert logits.shape == (2, CODES, 3, 5)
    codes = logits.argmax(1)
    assert codes.unique().numel() >= 3
    assert torch.equal(system.tokens(X), codes)
    out = through(held["decoder"], one_hot(codes, CODES).movedim(-1, 1).float(), "decoder")
    pixels = ((out[:, :3].sigmoid() - 0.1) / 0.8).clamp(0, 1) * 2 - 1
    assert torch.allclose(system.pictures(codes), pixels, atol=1e-5)
    *_, answer = system.run(Reconstruct(images=X))
    assert torch.allclose(answer.pixels, pixels, atol=1e-5)
    assert not (folder / "trapped").exists(), "code of the file was run"

    again = load(folder / "decoder.pkl", precision="fp32", device="cpu")
    assert torch.equal(again.tokens(X), codes)


def test_what_is_missing_is_told(files):
    folder, _ = files
    (folder / "encoder.pkl").rename(folder / "other.pkl")
    with pytest.raises(DataError, match=r"has no 'encoder.pkl'; DALL-E's dVAE is both"):
        read(folder)
    (folder / "encoder.pkl").write_bytes((folder / "decoder.pkl").read_bytes())
    with pytest.raises(DataError, match="the encoder knows 6 codes, the decoder 11; take both"):
        read(folder)
    torch.save(conv(3, 4, 1).state_dict(), folder / "encoder.pkl")
    with pytest.raises(DataError, match="holds no tensors; give the file with the weights of a network"):
        read(folder)
    (folder / "encoder.pkl").write_bytes((folder / "decoder.pkl").read_bytes()[:-40])
    with pytest.raises(DataError, match="fetch it again"):
        read(folder)


def test_the_published_networks_have_their_size():
    """Counted by hand from the description: blocks of four convolutions, a quarter as wide inside."""

    def blocks(before: int, widths: list[int], kernels: tuple[int, ...]) -> int:
        total = 0
        for width in widths:
            for i in range(2):
                sizes = [before if i == 0 else width, *[width // 4] * 3, width]
                total += sum(a * b * k * k + b for a, b, k in zip(sizes, sizes[1:], kernels, strict=False))
                total += (before + 1) * width if i == 0 and before != width else 0
            before = width
        return total

    with torch.device("meta"):
        encoder, decoder = DVAEEncoder(DVAEConfig()), DVAEDecoder(DVAEConfig(channels=6))
    counts = [sum(p.numel() for p in half.parameters()) for half in (encoder, decoder)]
    widths = [256, 512, 1024, 2048]
    assert counts[0] == 3 * 256 * 49 + 256 + blocks(256, widths, (3, 3, 3, 1))
    assert counts[1] == blocks(128, widths[::-1], (1, 3, 3, 3)) + 256 * 6 + 6
    whole = counts[0] + 2049 * 8192, counts[1] + 8193 * 128
    assert [round(count / 1e6, 1) for count in whole] == [53.8, 43.8]
