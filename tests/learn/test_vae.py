"""What autoencoder and VAE learn of digits and clothes, each beside the control that makes it mean something.

Clothes need the files of Fashion-MNIST: Debian's package dataset-fashion-mnist, or the directory that
``sfumato data fashion --allow-network`` fills.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import sfumato
from sfumato.core.likelihood import Bernoulli, kl_to_normal
from sfumato.core.request import Generate, Images
from sfumato.core.rng import Rng
from sfumato.data.dataset import Dataset
from sfumato.data.digits import Digits
from sfumato.data.fashion import Fashion
from sfumato.metrics.classifier import DigitsClassifier, fashion_classifier
from sfumato.metrics.frechet import Moments, frechet_distance
from sfumato.metrics.precision_recall import precision_recall
from sfumato.systems.autoencoders.ae import Autoencoder, VectorCoder
from sfumato.systems.autoencoders.vae import VAE

pytestmark = [pytest.mark.learn, pytest.mark.timeout(7200)]

FIRST_SEED = 1_000_000


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


def trained(runs: Path, name: str, preset: str, steps: int | None = None) -> VectorCoder:
    """Train a preset, once for all tests."""
    folder = runs / f"{name}-{preset}"
    if not folder.exists():
        sfumato.train(name, preset, out=folder, steps=steps, quiet=True)
    system = sfumato.load(folder, precision="fp32", device="cpu")
    assert isinstance(system, VectorCoder)
    return system


def every(data: Dataset) -> tuple[Tensor, Tensor]:
    batch = data.batch(torch.arange(len(data)))
    return batch["image"], batch["label"]


@torch.no_grad()
def error(system: VectorCoder, x: Tensor) -> float:
    return (system.decode(system.encode(x)) - x).square().mean().item() / 4


def pca_error(train: Tensor, test: Tensor, size: int) -> float:
    """Of the best linear autoencoder."""
    mean = train.flatten(1).mean(0)
    axes = torch.linalg.svd(train.flatten(1) - mean, full_matrices=False).Vh[:size]
    rest = test.flatten(1) - mean
    return (rest - rest @ axes.T @ axes).square().mean().item() / 4


def drawn(system: VectorCoder, count: int) -> Tensor:
    *_, answer = system.run(Generate(count=count, seed=FIRST_SEED))
    assert isinstance(answer, Images)
    return answer.pixels


@pytest.mark.parametrize(("preset", "size"), [("laptop", 8), ("plane", 2)])
def test_an_autoencoder_of_digits_beats_the_best_linear_one(runs, preset, size):
    train, test = (every(Digits(split))[0] for split in ("train", "test"))
    ours, linear = error(trained(runs, "ae", preset), test), pca_error(train, test, size)
    print(f"mean squared error {ours:.4f}, PCA {linear:.4f}, ratio {ours / linear:.2f}, n {len(test)}")
    assert ours <= 0.75 * linear


def test_a_vae_of_digits_is_worth_its_nats(runs):
    (train, labels), (test, truth) = (every(Digits(split)) for split in ("train", "test"))
    system = trained(runs, "vae", "laptop")
    assert isinstance(system, VAE)
    found = system.bounds(test, 64, seed=FIRST_SEED)
    elbo, iwae = found.elbo.mean().item(), found.iwae.mean().item()
    logits = ((train.mean(0, keepdim=True) + 1) / 2).clamp(1e-3, 1 - 1e-3).logit()
    control = Bernoulli().log_prob(test, logits.expand_as(test)).mean().item()
    with torch.no_grad():
        mean, logvar = system.posterior(test)
        active = int((kl_to_normal(mean, logvar).mean(0) > 0.05).sum())
        seen = system.encode(train)
    near = torch.cdist(mean, seen).topk(5, largest=False).indices
    purity = (labels[near] == truth[:, None]).float().mean().item()
    print(f"IWAE-64 {iwae:.2f}, ELBO {elbo:.2f}, control {control:.2f} nats, n {len(test)}")
    print(f"active units {active} of 8, labels of the 5 nearest {purity:.3f}")
    assert elbo <= iwae
    assert iwae >= control + 3
    assert active >= 4
    assert purity >= 0.85


def test_a_vae_of_digits_knows_where_its_latents_lie_and_an_autoencoder_does_not(runs):
    """Digits are so small that a normal distribution fitted to an autoencoder's latents does well."""
    train, labels = every(Digits("train"))
    judge = DigitsClassifier(train, labels)
    real = Moments.of(judge.features(train))
    vae, ae = trained(runs, "vae", "laptop"), trained(runs, "ae", "laptop")
    normal = Rng.sampling(FIRST_SEED, 1000).normal(8)
    with torch.no_grad():
        made = {"vae": drawn(vae, 1000), "fitted": drawn(ae, 1000), "normal": ae.decode(normal)}
    distance = {n: frechet_distance(real, Moments.of(judge.features(x))).value for n, x in made.items()}
    print(", ".join(f"{name} {value:.3f}" for name, value in distance.items()))
    assert distance["vae"] <= 0.35 * distance["normal"]


def test_a_vae_of_clothes_reaches_its_nats_and_makes_purer_clothes(runs):
    train, test = (every(Fashion(split))[0] for split in ("train", "test"))
    vae, ae = (trained(runs, name, "fashion", steps=2345) for name in ("vae", "ae"))
    assert isinstance(vae, VAE)
    assert isinstance(ae, Autoencoder)
    elbo = vae.bounds(test, 10, seed=FIRST_SEED).elbo.mean().item()
    iwae = vae.bounds(test[:200], 500, seed=FIRST_SEED).iwae.mean().item()
    judge = fashion_classifier()
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:5000]
    real = Moments.of(judge.features(train[order]))
    seen = [judge.features(drawn(system, 5000)) for system in (vae, ae)]
    ours, fitted = (frechet_distance(real, Moments.of(x)).value for x in seen)
    sure, unsure = (precision_recall(judge.features(train[order]), x).precision for x in seen)
    print(f"ELBO {elbo:.2f} nats, n {len(test)}; IWAE-500 {iwae:.2f}, n 200")
    print(f"distance {ours:.2f}, autoencoder with fitted latent {fitted:.2f}, n 5000")
    print(f"precision {sure:.3f}, autoencoder {unsure:.3f}")
    assert iwae >= -238
    assert elbo >= -246
    assert ours <= 28
    assert sure >= unsure + 0.05, "by distance the autoencoder is not behind: its faults are others"
