"""Metrics at Inception's 2048 dimensions, ours beside scipy and torch.cdist, in one process on one core."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import scipy.linalg
import torch
from torch import Tensor

from sfumato.metrics.frechet import Moments, frechet_distance
from sfumato.metrics.precision_recall import precision_recall

DIMS = 2048
PICTURES = 5000
ROUNDS = 3


def main() -> None:
    torch.set_num_threads(1)
    features = [spectrum(PICTURES, seed) for seed in (0, 1)]
    real, fake = (Moments.of(x) for x in features)
    ours, theirs = alternate(lambda: fresh(real, fake), lambda: by_scipy(real, fake))
    show("Frechet distance, 2048 dimensions", "scipy.linalg.sqrtm", ours, theirs)
    print(f"  values: {fresh(real, fake):.9f} ours, {by_scipy(real, fake):.9f} scipy")
    ours, theirs = alternate(lambda: precision_recall(*features).precision, lambda: by_cdist(*features))
    show("Precision and recall, 5000 x 5000 x 2048, k = 3", "torch.cdist", ours, theirs)
    print(f"  precision: {precision_recall(*features).precision:.4f} ours, {by_cdist(*features):.4f} cdist")


def spectrum(n: int, seed: int) -> Tensor:
    """Features whose variances fall off as those of real pictures do."""
    x = torch.randn(n, DIMS, generator=torch.Generator().manual_seed(seed))
    return x * torch.arange(1, DIMS + 1) ** -0.5 + 0.01 * seed


def fresh(real: Moments, fake: Moments) -> float:
    """Anew, without the factor that a reference keeps between calls."""
    return frechet_distance(Moments(real.mean, real.covariance, real.n), fake).value


def by_scipy(real: Moments, fake: Moments) -> float:
    root = scipy.linalg.sqrtm((real.covariance @ fake.covariance).numpy())
    spread = real.covariance.trace() + fake.covariance.trace()
    return float((real.mean - fake.mean).square().sum() + spread - 2 * root.trace().real)


def by_cdist(real: Tensor, fake: Tensor) -> float:
    """The same measure by the library's distance function, in blocks of 1000."""

    def radius(x: Tensor) -> Tensor:
        return torch.cat([torch.cdist(part, x).kthvalue(4).values for part in x.split(1000)])

    reach, own = radius(real), radius(fake)
    inside, reached = [], torch.zeros(len(real), dtype=torch.bool)
    for part, around in zip(fake.split(1000), own.split(1000), strict=True):
        distances = torch.cdist(part, real)
        inside.append((distances <= reach).any(1))
        reached |= (distances <= around[:, None]).any(0)
    return torch.cat(inside).float().mean().item()


def alternate(ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float]:
    """Median seconds of CPU time of each, taken in turns."""
    seconds: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for k, function in enumerate((ours, theirs)):
            began = time.process_time()
            function()
            seconds[k].append(time.process_time() - began)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def show(what: str, peer: str, ours: float, theirs: float) -> None:
    print(f"{what}: {ours:.2f} s, {peer} {theirs:.2f} s, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
