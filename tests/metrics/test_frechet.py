"""Frechet distance against closed forms, scipy's matrix root and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from sfumato.errors import DataError, UsageError
from sfumato.metrics.frechet import Frechet, Moments, frechet_distance, trace_of_root


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(d: int, seed: int) -> torch.Tensor:
    a = normal(d, d, seed)
    return a @ a.T / d + 0.05 * torch.eye(d, dtype=torch.float64)


def test_of_two_gaussians_has_its_closed_form():
    """Commuting covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    rotation = torch.linalg.qr(normal(5, 5, 0)).Q
    s1, s2 = (
        torch.tensor([0.1, 0.5, 1.0, 2.0, 3.0]).double(),
        torch.tensor([1.0, 0.2, 1.5, 0.3, 2.5]).double(),
    )
    m1, m2 = normal(1, 5, 1)[0], normal(1, 5, 2)[0]
    a = Moments(m1, rotation @ torch.diag(s1**2) @ rotation.T, 100)
    b = Moments(m2, rotation @ torch.diag(s2**2) @ rotation.T, 100)
    expected = (m1 - m2).square().sum() + (s1 - s2).square().sum()
    assert frechet_distance(a, b).value == pytest.approx(expected.item(), rel=1e-12)


def test_of_samples_of_shifted_normals_is_the_squared_shift():
    shift = torch.tensor([1.0, -2.0, 0.5]).double()
    a, b = Moments.of(normal(20_000, 3, 0)), Moments.of(normal(20_000, 3, 1) + shift)
    assert frechet_distance(a, b).value == pytest.approx(shift.square().sum().item(), rel=0.05)


@settings(max_examples=20, deadline=None)
@given(d=st.integers(1, 23), seed=st.integers(0, 10**6))
def test_agrees_with_the_matrix_root_of_scipy(d, seed):
    a, b = covariance(d, seed), covariance(d, seed + 1)
    root = scipy.linalg.sqrtm(a.numpy() @ b.numpy())
    mean = torch.zeros(d).double()
    ours = trace_of_root(Moments(mean, a, None), Moments(mean, b, None))
    assert ours.item() == pytest.approx(np.trace(root).real, rel=1e-8)


def test_agrees_with_torchmetrics_on_a_custom_network():
    class Means(nn.Module):
        num_features = 6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.adaptive_avg_pool2d(x.float() / 255, (1, 2)).flatten(1)

    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (70, 3, 5, 8), generator=generator, dtype=torch.uint8)
    fake = torch.randint(0, 180, (50, 3, 5, 8), generator=generator, dtype=torch.uint8)
    net = Means()
    peer = FrechetInceptionDistance(feature=net, input_img_size=(3, 5, 8))
    peer.set_dtype(torch.float64)
    peer.update(real, real=True)
    peer.update(fake, real=False)
    ours = frechet_distance(Moments.of(net(real)), Moments.of(net(fake)))
    assert ours.value == pytest.approx(peer.compute().item(), rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(2, 60), d=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_of_a_set_to_itself_is_nothing_singular_or_not(n, d, seed):
    moments = Moments.of(normal(n, d, seed))
    assert frechet_distance(moments, moments).value < 1e-6


def test_is_symmetric_even_when_one_side_is_singular():
    few, many = Moments.of(normal(12, 30, 0)), Moments.of(normal(200, 30, 1))
    there, back = frechet_distance(few, many).value, frechet_distance(many, few).value
    assert there == pytest.approx(back, rel=1e-6)
    root = np.sqrt(np.linalg.eigvals((few.covariance @ many.covariance).numpy()).real.clip(0)).sum()
    assert trace_of_root(few, many).item() == pytest.approx(root, rel=1e-5)


def test_published_statistics_may_be_singular():
    """No vectors at hand, only their covariance: eigenvectors stand in for Cholesky's factor."""
    few, many = Moments.of(normal(12, 30, 0)), Moments.of(normal(200, 30, 1))
    read = Moments(few.mean, few.covariance, None)
    assert read.root.shape[1] == 11
    assert few.root.shape == (30, 12)
    assert frechet_distance(read, many).value == pytest.approx(frechet_distance(few, many).value, rel=1e-7)
    assert frechet_distance(read, read).value < 1e-6


def test_is_biased_upwards_by_about_one_over_n():
    def between(n: int) -> float:
        pairs = [(Moments.of(normal(n, 8, 2 * s)), Moments.of(normal(n, 8, 2 * s + 1))) for s in range(30)]
        return float(np.mean([frechet_distance(a, b).value for a, b in pairs]))

    biases = {n: between(n) for n in (50, 100, 200, 400)}
    assert list(biases.values()) == sorted(biases.values(), reverse=True)
    assert biases[50] / biases[400] == pytest.approx(8, rel=0.25)


def test_says_what_it_was_measured_on_and_warns_of_few_pictures():
    result = frechet_distance(Moments.of(normal(40, 9, 0)), Moments.of(normal(9, 9, 1)))
    assert (result.n, result.dims) == ((40, 9), 9)
    assert result.warning is not None
    assert "9 pictures cannot fix a covariance of 9 dimensions" in result.warning
    assert Frechet(1.0, (40, 10), 9).warning is None
    assert Frechet(1.0, (None, 10), 9).warning is None


def test_statistics_are_read_and_written_as_pytorch_fid_does(tmp_path):
    moments = Moments.of(normal(30, 7, 3))
    moments.save(tmp_path / "stats.npz")
    with np.load(tmp_path / "stats.npz") as file:
        assert set(file.files) == {"mu", "sigma"}
    again = Moments.read(tmp_path / "stats.npz")
    assert torch.equal(again.covariance, moments.covariance)
    assert again.n is None


def test_wrong_input_is_refused(tmp_path):
    with pytest.raises(UsageError, match="at least 2 pictures, got 1"):
        Moments.of(normal(1, 3, 0))
    with pytest.raises(UsageError, match="Real features have 3 dimensions, generated ones 4"):
        frechet_distance(Moments.of(normal(5, 3, 0)), Moments.of(normal(5, 4, 0)))
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="holds x, not 'mu' and 'sigma'"):
        Moments.read(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", mu=np.zeros(3), sigma=np.zeros((2, 2)))
    with pytest.raises(DataError, match="mu has 3 entries"):
        Moments.read(tmp_path / "b.npz")
