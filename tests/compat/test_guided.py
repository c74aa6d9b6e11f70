"""Files of guided-diffusion, written here name by name as its modules nest, become networks of ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import sfumato
from sfumato.compat import guided
from sfumato.compat.part import Weights, fill
from sfumato.core.request import Generate, Images
from sfumato.errors import DataError
from sfumato.nn.noised_classifier import NoisedClassifier, NoisedClassifierConfig
from sfumato.nn.unet import UNet
from sfumato.systems.diffusion.adm import ADM

WIDTHS, BLOCKS, SIZE = (64, 64, 128), 2, 16
KNOWN = guided.Published(SIZE, "cosine")
Shapes = Iterator[tuple[str, tuple[int, ...]]]


def layer(name: str, *shape: int) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def residual(name: str, inside: int, outside: int) -> Shapes:
    yield from layer(f"{name}.in_layers.0", inside)
    yield from layer(f"{name}.in_layers.2", outside, inside, 3, 3)
    yield from layer(f"{name}.emb_layers.1", 2 * outside, 4 * WIDTHS[0])
    yield from layer(f"{name}.out_layers.0", outside)
    yield from layer(f"{name}.out_layers.3", outside, outside, 3, 3)
    if inside != outside:
        yield from layer(f"{name}.skip_connection", outside, inside, 1, 1)


def attending(name: str, width: int) -> Shapes:
    yield from layer(f"{name}.norm", width)
    yield from layer(f"{name}.qkv", 3 * width, width, 1)
    yield from layer(f"{name}.proj_out", width, width, 1)


def down(classes: int, channels: int = 3) -> Shapes:
    """The half that denoisers and classifiers share; the last level attends."""
    emb = 4 * WIDTHS[0]
    yield from layer("time_embed.0", emb, WIDTHS[0])
    yield from layer("time_embed.2", emb, emb)
    if classes:
        yield "label_emb.weight", (classes, emb)
    yield from layer("input_blocks.0.0", WIDTHS[0], channels, 3, 3)
    number, inside = 1, WIDTHS[0]
    for level, width in enumerate(WIDTHS):
        for _ in range(BLOCKS):
            yield from residual(f"input_blocks.{number}.0", inside, width)
            if level == len(WIDTHS) - 1:
                yield from attending(f"input_blocks.{number}.1", width)
            number, inside = number + 1, width
        if level < len(WIDTHS) - 1:
            yield from residual(f"input_blocks.{number}.0", width, width)
            number += 1
    yield from residual("middle_block.0", width, width)
    yield from attending("middle_block.1", width)
    yield from residual("middle_block.2", width, width)


def denoiser(classes: int) -> Shapes:
    yield from down(classes)
    skips = [WIDTHS[0]]
    for level, width in enumerate(WIDTHS):
        skips += [width] * (BLOCKS + (level < len(WIDTHS) - 1))
    number, inside = 0, WIDTHS[-1]
    for level, width in reversed(list(enumerate(WIDTHS))):
        for i in range(BLOCKS + 1):
            yield from residual(f"output_blocks.{number}.0", inside + skips.pop(), width)
            inside, inner = width, 1
            if level == len(WIDTHS) - 1:
                yield from attending(f"output_blocks.{number}.1", width)
                inner = 2
            if level and i == BLOCKS:
                yield from residual(f"output_blocks.{number}.{inner}", width, width)
            number += 1
    yield from layer("out.0", WIDTHS[0])
    yield from layer("out.2", 6, WIDTHS[0], 3, 3)


def classifier(classes: int) -> Shapes:
    yield from down(0)
    width = WIDTHS[-1]
    yield from layer("out.0", width)
    yield "out.2.positional_embedding", (width, (SIZE // 4) ** 2 + 1)
    yield from layer("out.2.qkv_proj", 3 * width, width, 1)
    yield from layer("out.2.c_proj", classes, width, 1)


def write(path, shapes: Shapes):
    dice = torch.Generator().manual_seed(0)
    torch.save({name: 0.05 * torch.randn(shape, generator=dice) for name, shape in shapes}, path)
    return path


@pytest.mark.parametrize("classes", [0, 7])
def test_a_denoiser_fits_tensor_by_tensor(tmp_path, classes):
    path = write(tmp_path / "a.pt", denoiser(classes))
    found = guided.read(path, KNOWN)
    assert (found.network.widths, found.network.blocks) == (WIDTHS, (BLOCKS,))
    assert found.network.attend == (False, False, True)
    net = UNet(found.network)
    fill(net, Weights(found.tensors, path))
    assert sum(p.numel() for p in net.parameters()) == sum(
        torch.Size(s).numel() for _, s in denoiser(classes)
    )


def test_a_classifier_fits_tensor_by_tensor(tmp_path):
    path = write(tmp_path / "a.pt", classifier(9))
    found = guided.read(path, KNOWN)
    assert found.classes == 9
    net = NoisedClassifier(NoisedClassifierConfig(found.network, 9, SIZE, SIZE))
    fill(net, Weights(found.tensors, path))
    assert net(torch.randn(2, 3, SIZE, SIZE), torch.tensor([3.0, 500.0])).shape == (2, 9)


@pytest.mark.parametrize("heads_first", [True, False])
def test_heads_are_taken_apart_as_they_were_put_together(heads_first):
    """Joint channels are heads x (q, k, v) x d in the older order, (q, k, v) x heads x d in the newer."""
    heads, d = 3, 4
    parts = torch.arange(3 * heads * d).view(3, heads, d).float()
    joint = (parts.transpose(0, 1) if heads_first else parts).reshape(-1, 1)
    q, k, v = guided._split(joint, heads, heads_first)
    assert torch.equal(torch.stack([q, k, v]).view(3, heads, d), parts)


def test_a_folder_with_both_generates_a_class(tmp_path, monkeypatch):
    monkeypatch.setitem(guided.DENOISERS, WIDTHS, KNOWN)
    monkeypatch.setitem(guided.CLASSIFIERS, WIDTHS, KNOWN)
    write(tmp_path / "classifier.pt", classifier(7))
    write(tmp_path / "diffusion.pt", denoiser(7))
    system = sfumato.load(tmp_path, precision="fp32", device="cpu")
    assert isinstance(system, ADM)

    def made(**asked) -> Tensor:
        *_, answer = system.run(Generate(count=1, steps=3, **asked))
        assert isinstance(answer, Images)
        return answer.pixels

    guidance = [made(label=3, guidance=scale) for scale in (0.0, 30.0)]
    assert guidance[0].shape == (1, 3, SIZE, SIZE)
    assert not torch.equal(*guidance)
    assert not torch.equal(made(label=4, guidance=0.0), guidance[0]), "the denoiser is told the class too"

    alone = sfumato.load(tmp_path / "diffusion.pt", precision="fp32", device="cpu")
    *_, answer = alone.run(Generate(count=1, steps=3, label=3))
    assert torch.equal(answer.pixels, guidance[0]), "without a classifier nothing guides"


def test_what_cannot_be_known_is_refused(tmp_path):
    path = write(tmp_path / "a.pt", denoiser(0))
    with pytest.raises(DataError, match="no published model has"):
        guided.read(path)
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(DataError, match="no network of guided-diffusion"):
        guided.read(path)


def test_a_classifier_alone_generates_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(guided.CLASSIFIERS, WIDTHS, KNOWN)
    with pytest.raises(DataError, match="0 denoisers and 1 classifiers"):
        ADM.from_file(write(tmp_path / "a.pt", classifier(3)))
