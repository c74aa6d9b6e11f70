"""Linear heads: public files are read as they are, one's own are fitted without looking at what is asked."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import spearmanr
from torch import nn
from torch.nn.functional import normalize

from sfumato.errors import DataError, UsageError
from sfumato.metrics.aesthetic import Head, fit_head, read_head, spearman


def rows(count: int, wide: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(count, wide, generator=torch.Generator().manual_seed(seed)), dim=1)


class Second(nn.Module):
    """The shape of LAION's second predictor, narrower."""

    def __init__(self, wide: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(wide, 11), nn.Dropout(0.2), nn.Linear(11, 7), nn.Dropout(0.2), nn.Linear(7, 5),
            nn.Dropout(0.1), nn.Linear(5, 3), nn.Linear(3, 1),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("kind", [lambda d: nn.Linear(d, 1), Second])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_public_heads_answer_as_their_networks_do(tmp_path, kind, suffix):
    torch.manual_seed(0)
    network, x = kind(13).eval(), rows(9, 13)
    path = tmp_path / f"head{suffix}"
    (torch.save if suffix == ".pth" else save_file)(network.state_dict(), path)
    with torch.no_grad():
        assert torch.allclose(read_head(path)(x).float(), network(x)[:, 0], atol=1e-6)


def test_what_is_no_linear_head_is_an_error(tmp_path):
    save_file(nn.Linear(4, 2).state_dict(), tmp_path / "two.safetensors")
    with pytest.raises(DataError, match=r"no linear head .* \(it holds bias \(2,\), weight \(2, 4\)\)"):
        read_head(tmp_path / "two.safetensors")
    save_file(
        {"a.0.weight": torch.zeros(5, 4), "a.1.weight": torch.zeros(1, 6)}, tmp_path / "gap.safetensors"
    )
    with pytest.raises(DataError, match="no linear head"):
        read_head(tmp_path / "gap.safetensors")
    (tmp_path / "text.safetensors").write_text("x")
    with pytest.raises(DataError, match="is no safetensors file"):
        read_head(tmp_path / "text.safetensors")
    with pytest.raises(DataError, match="There is no head"):
        read_head(tmp_path / "nowhere.pth")
    with pytest.raises(DataError, match="has ReLUs between its layers"):
        read_head(tmp_path / "ava+logos-l14-reluMSE.pth")
    with pytest.raises(DataError, match="reads embeddings of 13 numbers, this CLIP gives 12"):
        Head(torch.zeros(13), 0.0)(rows(2, 12))


def test_a_head_foretells_planted_scores():
    x = rows(300, 40)
    dice = torch.Generator().manual_seed(1)
    planted = x @ torch.randn(40, generator=dice) * 4 + 5 + 0.3 * torch.randn(300, generator=dice)
    fit = fit_head(x[:150], planted[:150].tolist())
    fresh = spearman(fit.head(x[150:]), planted[150:])
    assert fresh >= 0.9
    assert abs(fit.spearman - fresh) < 0.08  # what it says of itself is not flattered
    shuffled = fit_head(x[:150], planted[:150][torch.randperm(150, generator=dice)].tolist())
    assert abs(spearman(shuffled.head(x[150:]), planted[150:])) < 0.3
    assert shuffled.spearman < 0.3


def test_leaving_out_is_exact():
    x, y = rows(24, 5).double(), torch.randn(24, generator=torch.Generator().manual_seed(2)).double() + 3
    fit = fit_head(x, y.tolist())
    power = torch.linalg.svdvals(x - x.mean(0)).square().mean()
    foretold = []
    for i in range(24):
        rest = [k for k in range(24) if k != i]
        mean, centre = x[rest].mean(0), y[rest].mean()
        a = x[rest] - mean
        weight = torch.linalg.solve(
            a.mT @ a + fit.ridge * power * torch.eye(5).double(), a.mT @ (y[rest] - centre)
        )
        foretold.append(centre + (x[i] - mean) @ weight)
    assert fit.spearman == pytest.approx(spearmanr(torch.stack(foretold), y).statistic, abs=1e-9)


def test_ranks_are_those_of_scipy():
    dice = torch.Generator().manual_seed(3)
    a, b = (torch.randint(0, 9, (50,), generator=dice).float() for _ in range(2))
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)


@pytest.mark.parametrize("scores", [[1.0] * 7, [3.0] * 9])
def test_too_few_or_equal_scores_are_an_error(scores):
    with pytest.raises(UsageError, match="at least 8 scores that differ"):
        fit_head(rows(len(scores), 4), scores)


def test_a_head_of_ones_own_is_read_back(tmp_path):
    head = fit_head(rows(30, 6), [float(i % 7) for i in range(30)]).head
    save_file(head.tensors(), tmp_path / "mine.safetensors")
    assert torch.allclose(
        read_head(tmp_path / "mine.safetensors")(rows(5, 6, 9)), head(rows(5, 6, 9)), atol=1e-5
    )
