"""Points in the plane, and Gaussian mixtures whose density, score and best denoiser are known exactly."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from sfumato.data.dataset import Facts
from sfumato.data.labelled import check_split
from sfumato.errors import UsageError, nearest

KINDS = {"rings": 3, "moons": 2, "spiral": 2, "gaussians": 25}
"""Point sets and how many labelled parts each has."""
SPOTS = torch.tensor([[part % 5, part // 5] for part in range(25)]) * 0.4 - 0.8
"""Centres of the parts of ``gaussians``."""
SPOT = 0.02
"""Standard deviation of each, a twentieth of their distance as in Gulrajani et al. 2017, section 4.1."""


class Points:
    """Points in [-1, 1]^2 as pictures of two channels and one pixel, so that every system can learn them.

    ``rings`` three circles, ``moons`` two half moons, ``spiral`` two arms, ``gaussians`` a grid of 5 x 5
    spots; the label says which circle, moon, arm or spot.
    """

    def __init__(self, split: str = "train", size: int = 1, *, kind: str = "moons", length: int = 10_000):
        check_split(kind, split)
        if kind not in KINDS:
            raise UsageError(f"There is no point set '{kind}'{nearest(kind, KINDS)}")
        if size != 1:
            raise UsageError(f"A point is a picture of 1 x 1 pixels, not {size}; leave out --size.")
        seed = 2 * list(KINDS).index(kind) + (split == "test")
        self._points, self._labels = points(kind, length, torch.Generator().manual_seed(seed))
        digest = hashlib.blake2b(self._points.numpy().tobytes(), digest_size=8).hexdigest()
        classes = tuple(f"{kind} {part}" for part in range(KINDS[kind]))
        fields = frozenset({"image", "label"})
        self.facts = Facts(kind, 2, 1, 1, fields, classes=classes, fingerprint=digest)

    def __len__(self) -> int:
        return len(self._points)

    def batch(self, indices: Int[Tensor, " b"]) -> Mapping[str, Any]:
        return {"image": self._points[indices][:, :, None, None], "label": self._labels[indices]}


def points(
    kind: str, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n 2"], Int[Tensor, " n"]]:
    """Draw points of a set and the part each belongs to."""
    part = torch.randint(KINDS[kind], (count,), generator=generator)
    along = torch.rand(count, generator=generator)
    noise = torch.randn(count, 2, generator=generator)
    turn = 2 * math.pi * along
    if kind == "gaussians":
        return SPOTS[part] + SPOT * noise, part
    if kind == "rings":
        radius, angle, spread = 0.3 * (part + 1), turn, 0.02
    elif kind == "spiral":
        radius, angle, spread = along.sqrt() * 0.9, 3 * math.pi * along.sqrt() + math.pi * part, 0.015
    else:
        radius, angle, spread = torch.full_like(along, 0.6), math.pi * (along + part), 0.04
    place = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    if kind == "moons":
        place = place + torch.where(
            part[:, None] == 0, torch.tensor([-0.3, -0.15]), torch.tensor([0.3, 0.15])
        )
    return place + spread * noise, part


class GaussianMixture:
    """A sum of Gaussians in any dimension: the oracle of every solver, because all about it is known.

    For noisy ``x_t = alpha x0 + sigma n`` it gives the density, the score (gradient of the log density) and
    the best denoiser E[x0 | x_t], all computed in float64 and answered in the type of x. Data may have any
    shape, (b, d) or (b, c, h, w), with d numbers an example; alpha and sigma are numbers or (b,).
    """

    def __init__(
        self, means: Float[Tensor, "k d"], covariances: Float[Tensor, "k d d"], weights: Float[Tensor, " k"]
    ):
        if not bool((weights > 0).all()):
            raise UsageError(
                f"Weights of a mixture are positive, not {weights.tolist()}; leave out the others."
            )
        self.means = means.double()
        self.covariances = covariances.double()
        self.weights = weights.double() / weights.double().sum()
        # In the eigenvectors' frame adding noise and scaling keep every covariance diagonal.
        values, self._frames = torch.linalg.eigh(self.covariances)
        if bool((values < -1e-12).any()):
            raise UsageError("A covariance has a negative eigenvalue; give a positive semi-definite matrix.")
        self._variances = values.clamp(min=0)

    @classmethod
    def isotropic(
        cls,
        means: Sequence[Sequence[float]],
        std: float | Sequence[float],
        weights: Sequence[float] | None = None,
    ) -> GaussianMixture:
        """Round Gaussians; one of them in one dimension is ``isotropic([[0.5]], 0.3)``."""
        centres = torch.tensor(means, dtype=torch.float64)
        count, d = centres.shape
        spread = torch.as_tensor(std, dtype=torch.float64).expand(count)
        shares = torch.ones(count) if weights is None else torch.tensor(weights, dtype=torch.float64)
        return cls(centres, spread[:, None, None] ** 2 * torch.eye(d, dtype=torch.float64), shares)

    @property
    def mean(self) -> Float64[Tensor, " d"]:
        return self.weights @ self.means

    @property
    def covariance(self) -> Float64[Tensor, "d d"]:
        centred = self.means - self.mean
        within = torch.einsum("k,kde->de", self.weights, self.covariances)
        return within + torch.einsum("k,kd,ke->de", self.weights, centred, centred)

    def sample(self, count: int, generator: torch.Generator) -> Float64[Tensor, "n d"]:
        """Draw clean examples."""
        part = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.means.shape[1], dtype=torch.float64, generator=generator)
        return self.means[part] + torch.einsum(
            "nde,ne->nd", self._frames[part], self._variances[part].sqrt() * noise
        )

    def log_density(
        self, x: Float[Tensor, "b ..."], alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0
    ) -> Float[Tensor, " b"]:
        """Logarithm of the density of x_t."""
        return torch.logsumexp(self._terms(x, alpha, sigma)[0], 1).to(x.dtype)

    def score(
        self, x: Float[Tensor, "b ..."], alpha: float | Tensor = 1.0, sigma: float | Tensor = 0.0
    ) -> Float[Tensor, "b ..."]:
        """Gradient of the log density of x_t."""
        logs, offsets, a, s = self._terms(x, alpha, sigma)
        pulls = -offsets / (a**2 * self._variances + s**2)
        return self._blend(logs, pulls).reshape(x.shape).to(x.dtype)

    def denoise(
        self, x: Float[Tensor, "b ..."], alpha: float | Tensor, sigma: float | Tensor
    ) -> Float[Tensor, "b ..."]:
        """E[x0 | x_t], the answer of an ideal network: each Gaussian's own, blended by how likely it is."""
        logs, offsets, a, s = self._terms(x, alpha, sigma)
        gains = a * self._variances / (a**2 * self._variances + s**2)
        shares = logs.softmax(1)
        return (shares @ self.means + self._blend(logs, gains * offsets)).reshape(x.shape).to(x.dtype)

    def _terms(
        self, x: Tensor, alpha: float | Tensor, sigma: float | Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log of weight times density of each Gaussian (b, k); offsets from its mean in its own frame
        (b, k, d); alpha and sigma, broadcastable to these."""
        flat = x.reshape(len(x), -1).double()
        a, s = (torch.as_tensor(v, dtype=torch.float64).reshape(-1, 1, 1) for v in (alpha, sigma))
        offsets = torch.einsum("kde,bkd->bke", self._frames, flat[:, None] - a * self.means)
        variances = a**2 * self._variances + s**2
        logs = -0.5 * (offsets**2 / variances + variances.log() + math.log(2 * math.pi)).sum(2)
        return logs + self.weights.log(), offsets, a, s

    def _blend(self, logs: Tensor, vectors: Tensor) -> Tensor:
        """Turn vectors out of each Gaussian's frame and average them by responsibility."""
        return torch.einsum("bk,kde,bke->bd", logs.softmax(1), self._frames, vectors)
