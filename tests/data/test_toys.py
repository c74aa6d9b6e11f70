"""Points in the plane, and mixtures whose closed forms agree with autograd, scipy and sampling."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from sfumato.data.toys import KINDS, GaussianMixture, Points
from sfumato.errors import UsageError


def mixture(d: int = 3, k: int = 4, dtype: torch.dtype = torch.float64) -> GaussianMixture:
    generator = torch.Generator().manual_seed(d)
    means = torch.randn(k, d, generator=generator, dtype=dtype)
    roots = torch.randn(k, d, d, generator=generator, dtype=dtype) * 0.4
    weights = torch.rand(k, generator=generator, dtype=dtype) + 0.1
    return GaussianMixture(means, roots @ roots.mT + 0.01 * torch.eye(d, dtype=dtype), weights)


def noisy(gmm: GaussianMixture, count: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    alpha = torch.rand(count, generator=generator, dtype=torch.float64)
    sigma = torch.rand(count, generator=generator, dtype=torch.float64) * 2 + 0.05
    x0 = gmm.sample(count, generator)
    noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    return alpha[:, None] * x0 + sigma[:, None] * noise, alpha, sigma


@pytest.mark.parametrize("d", [1, 2, 5])
def test_density_agrees_with_scipy(d):
    gmm = mixture(d)
    x, alpha, sigma = noisy(gmm)
    for i in range(len(x)):
        a, s = float(alpha[i]), float(sigma[i])
        expected = sum(
            float(w) * multivariate_normal(a * m, a**2 * c + s**2 * torch.eye(d).double()).pdf(x[i])
            for w, m, c in zip(gmm.weights, gmm.means, gmm.covariances, strict=True)
        )
        assert gmm.log_density(x[i : i + 1], a, s).exp().item() == pytest.approx(expected, rel=1e-10)
    clean = sum(
        float(w) * multivariate_normal(m, c).pdf(x[0])
        for w, m, c in zip(gmm.weights, gmm.means, gmm.covariances, strict=True)
    )
    assert gmm.log_density(x)[0].exp().item() == pytest.approx(clean, rel=1e-9)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_score_is_the_gradient_of_the_log_density(d):
    gmm = mixture(d)
    x, alpha, sigma = noisy(gmm)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(gmm.log_density(x, alpha, sigma).sum(), x)
    torch.testing.assert_close(gmm.score(x.detach(), alpha, sigma), gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_denoiser_obeys_tweedie(d):
    gmm = mixture(d)
    x, alpha, sigma = noisy(gmm)
    tweedie = (x + sigma[:, None] ** 2 * gmm.score(x, alpha, sigma)) / alpha[:, None]
    torch.testing.assert_close(gmm.denoise(x, alpha, sigma), tweedie, rtol=1e-9, atol=1e-9)


def test_denoiser_is_the_posterior_mean_by_quadrature():
    gmm = GaussianMixture.isotropic([[-1.0], [0.5]], [0.2, 0.4], [0.3, 0.7])
    a, s, x = 0.8, 0.6, 0.1

    def joint(x0: float) -> float:
        prior = gmm.log_density(torch.tensor([[x0]], dtype=torch.float64)).exp().item()
        return prior * float(multivariate_normal(a * x0, s**2).pdf(x))

    mean = quad(lambda v: v * joint(v), -4, 4)[0] / quad(joint, -4, 4)[0]
    assert gmm.denoise(torch.tensor([[x]]).double(), a, s).item() == pytest.approx(mean, rel=1e-7)


def test_limits_without_and_with_all_noise():
    gmm = mixture(2)
    x = gmm.sample(4, torch.Generator().manual_seed(0))
    torch.testing.assert_close(gmm.denoise(x, 1.0, 0.0), x)
    torch.testing.assert_close(gmm.denoise(x, 0.0, 1.0), gmm.mean.expand(4, 2))
    far = gmm.denoise(x + 1e4, 1.0, 0.1)
    assert torch.isfinite(far).all()


def test_points_instead_of_spots():
    """Without spread the ideal denoiser of a training set: a softmax over its examples."""
    gmm = GaussianMixture.isotropic([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]], 0.0)
    x = torch.tensor([[0.4, 0.3]], dtype=torch.float64)
    shares = torch.softmax(-((x - 0.7 * gmm.means) ** 2).sum(1) / (2 * 0.5**2), 0)
    torch.testing.assert_close(gmm.denoise(x, 0.7, 0.5), (shares @ gmm.means)[None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pictures_are_answered_in_their_shape_and_type(dtype):
    gmm = mixture(6)
    x = torch.randn(5, 1, 2, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    alpha, sigma = torch.full((5,), 0.5), torch.full((5,), 0.7)
    for answer in (gmm.score(x, alpha, sigma), gmm.denoise(x, alpha, sigma)):
        assert answer.shape == x.shape
        assert answer.dtype == dtype
    flat = gmm.denoise(x.flatten(1), 0.5, sigma)
    torch.testing.assert_close(gmm.denoise(x, alpha, sigma).flatten(1), flat)
    assert gmm.log_density(x, alpha, sigma).shape == (5,)


def test_samples_have_the_stated_moments():
    gmm = mixture(3)
    x = gmm.sample(200_000, torch.Generator().manual_seed(0))
    assert (x.mean(0) - gmm.mean).abs().max() < 0.01
    assert (x.T.cov() - gmm.covariance).abs().max() < 0.02


def test_one_gaussian_in_one_dimension():
    gmm = GaussianMixture.isotropic([[0.5]], 0.3)
    x = torch.tensor([[0.9]], dtype=torch.float64)
    assert gmm.mean.item() == 0.5
    assert gmm.covariance.item() == pytest.approx(0.09)
    a, s = 0.6, 0.8
    exact = 0.5 + a * 0.09 / (a**2 * 0.09 + s**2) * (0.9 - a * 0.5)
    assert gmm.denoise(x, a, s).item() == pytest.approx(exact, rel=1e-12)


def test_impossible_mixtures():
    with pytest.raises(UsageError, match="Weights of a mixture are positive"):
        GaussianMixture.isotropic([[0.0], [1.0]], 1.0, [1.0, 0.0])
    with pytest.raises(UsageError, match="negative eigenvalue"):
        GaussianMixture(torch.zeros(1, 2), torch.tensor([[[1.0, 2.0], [2.0, 1.0]]]), torch.ones(1))


@pytest.mark.parametrize("kind", KINDS)
def test_points_are_fixed_labelled_and_inside(kind):
    data, other = Points(kind=kind), Points("test", kind=kind)
    batch = data.batch(torch.arange(len(data)))
    assert batch["image"].shape == (10_000, 2, 1, 1)
    assert batch["image"].abs().max() < 1.1
    assert batch["label"].unique().tolist() == list(range(KINDS[kind]))
    assert len(data.facts.classes) == KINDS[kind]
    assert torch.equal(batch["image"][7:9], Points(kind=kind).batch(torch.tensor([7, 8]))["image"])
    assert not torch.equal(batch["image"], other.batch(torch.arange(10_000))["image"])
    assert data.facts.fingerprint != other.facts.fingerprint


def test_shapes_of_point_sets():
    def cloud(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        batch = Points(kind=kind).batch(torch.arange(10_000))
        return batch["image"][:, :, 0, 0], batch["label"]

    x, part = cloud("rings")
    assert (x.norm(dim=1) - 0.3 * (part + 1)).abs().max() < 0.12
    x, part = cloud("gaussians")
    assert (x - (torch.stack([part % 5, part // 5], 1) * 0.4 - 0.8)).norm(dim=1).max() < 0.2
    x, part = cloud("moons")
    assert x[part == 0, 1].mean() > 0 > x[part == 1, 1].mean()
    x, part = cloud("spiral")
    assert (x[part == 0].mean(0) + x[part == 1].mean(0)).abs().max() < 0.05


def test_wrong_points():
    with pytest.raises(UsageError, match="no point set 'mons'; did you mean 'moons'"):
        Points(kind="mons")
    with pytest.raises(UsageError, match="1 x 1 pixels, not 8"):
        Points(size=8)
    with pytest.raises(UsageError, match="'moons' has no split 'held'"):
        Points("held")
