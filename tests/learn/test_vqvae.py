"""What VQ-VAE learns of clothes and shapes: how well its numbers tell them, and how many codes it uses.

Clothes need the files of Fashion-MNIST: Debian's package dataset-fashion-mnist, or the directory that
``sfumato data fashion --allow-network`` fills.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import sfumato
from benchmarks.textgans import judge, scenes
from sfumato.data.fashion import Fashion
from sfumato.metrics.classifier import fashion_classifier
from sfumato.nn.quantize import perplexity
from sfumato.systems.autoencoders.vqvae import VQVAE

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]


def fresh() -> tuple[Tensor, Tensor]:
    batch = Fashion("test").batch(torch.arange(2000))
    return batch["image"], batch["label"]


@torch.no_grad()
def told(system: VQVAE, name: str) -> tuple[float, float, float]:
    """Mean squared error of pixels from 0 to 1, codes in use, and labels still read by the classifier."""
    x, labels = fresh()
    tokens = torch.cat([system.tokens(part) for part in x.split(500)])
    y = torch.cat([system.pictures(part) for part in tokens.split(500)])
    error = (y - x).square().mean().item() / 4
    used = perplexity(tokens, system.config.book.codes).item()
    right = fashion_classifier().accuracy(y, labels)
    print(
        f"{name}: error {error:.5f}, perplexity {used:.1f} of {system.config.book.codes}, labels {right:.3f}"
    )
    return error, used, right


def trained(folder, preset: str, **settings: object) -> VQVAE:
    system = sfumato.train("vqvae", preset, out=folder, settings=settings, quiet=True)
    assert isinstance(system, VQVAE)
    return system.float()


def test_restarts_keep_the_book_in_use_and_that_pays(tmp_path):
    error, used, right = told(trained(tmp_path / "run", "fashion"), "with restarts")
    control = trained(tmp_path / "control", "fashion", **{"book.restart": 0.0})
    worse, idle, _ = told(control, "without")
    assert used >= 0.5 * 256
    assert used > 2 * idle
    assert error <= 0.9 * worse
    assert error <= 0.005
    assert right >= 0.87


@torch.no_grad()
def shape_told(system: VQVAE, name: str) -> tuple[float, float]:
    """Colours and shapes that the evaluation oracle still reads, both right, and codes in use."""
    real, captions = scenes("test", 1000, 32)
    tokens = torch.cat([system.tokens(part) for part in real.split(250)])
    faith = judge(torch.cat([system.pictures(part) for part in tokens.split(250)]), captions, real)
    used = perplexity(tokens, system.config.book.codes).item()
    print(f"{name}: {faith}, perplexity {used:.1f} of {system.config.book.codes}")
    return faith.both, used


def test_64_numbers_keep_every_shape(tmp_path):
    """What DALL-E is told of a picture; the soft book keeps less, since it uses few of its codes."""
    runs = {
        name: sfumato.train("vqvae", name, data="one-shape", out=tmp_path / name, quiet=True).float()
        for name in ("laptop", "dvae")
    }
    (hard, used), (soft, idle) = (shape_told(run, name) for name, run in runs.items())
    assert hard >= 0.95
    assert used >= 40
    assert soft >= 0.85
    assert used > 2 * idle
