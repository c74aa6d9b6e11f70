"""CLIP score and retrieval: closed forms on vectors made for it, and rows in the report of captioned data."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torchmetrics.functional.retrieval import retrieval_hit_rate

from sfumato.core.contrastive import Contrastive
from sfumato.data.dataset import Facts
from sfumato.data.shapes import Shapes
from sfumato.errors import DataError
from sfumato.metrics.clip_score import ClipScorer, clip_scores, retrieval_rows
from sfumato.metrics.features import Pixels
from sfumato.metrics.report import evaluate
from sfumato.metrics.retrieval import pools, r_precision, ranks, recall_at

COLOURS = {"red": (1.0, -1.0, -1.0), "green": (-1.0, 1.0, -1.0), "blue": (-1.0, -1.0, 1.0)}


class Brightness:
    """Compares the mean colour of a picture with the colour that a caption names first."""

    size, templates, fingerprint = (4, 4), ("{}",), "brightness"

    def prepared(self, pixels: Tensor) -> Tensor:
        return pixels

    def encode_images(self, pixels: Tensor) -> Tensor:
        return normalize(pixels.mean((2, 3)) + 1e-6, dim=1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        found = [next((v for k, v in COLOURS.items() if k in text), (1.0, 1.0, 1.0)) for text in texts]
        return normalize(torch.tensor(found), dim=1)

    def encode_labels(self, labels: Sequence[str], templates: Sequence[str]) -> Tensor:
        return self.encode_texts(labels)

    def unread(self, texts: Sequence[str]) -> tuple[str, ...]:
        return ()


def test_a_score_is_a_hundred_times_the_cosine_and_never_negative():
    images = torch.tensor([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0]])
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    torch.testing.assert_close(clip_scores(images, texts), torch.tensor([100.0, 60.0, 0.0]))
    pixels = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    judge = Brightness()
    assert isinstance(judge, Contrastive)
    scores = ClipScorer(judge, "brightness").scores(pixels, ["red", "blue"])
    torch.testing.assert_close(scores, torch.tensor([100.0, 0.0]), atol=1e-3, rtol=0)


def test_recall_equals_torchmetrics_and_counts_ties_against_us():
    scores = torch.randn(9, 9, generator=torch.Generator().manual_seed(0)) + torch.eye(9)
    for k in (1, 3):
        rows = [retrieval_hit_rate(scores[i], torch.eye(9)[i].bool(), top_k=k) for i in range(9)]
        columns = [retrieval_hit_rate(scores[:, i], torch.eye(9)[i].bool(), top_k=k) for i in range(9)]
        want = (torch.stack(rows).mean().item(), torch.stack(columns).mean().item())
        assert recall_at(scores, k) == pytest.approx(want)
    assert recall_at(torch.ones(4, 4)) == (0.0, 0.0), "a judge who cannot tell finds nothing"
    assert ranks(torch.ones(1, 4), torch.tensor([2])).tolist() == [3]


def test_precision_is_the_chance_against_others_and_knows_who_says_the_same():
    captions = [f"caption {i}" for i in range(40)]
    blind = torch.rand(40, 40, generator=torch.Generator().manual_seed(1))
    assert r_precision(torch.eye(40), captions).mean() == 1
    shares = torch.stack([r_precision(blind, captions, others=3, seed=s).mean() for s in range(30)])
    assert shares.mean().item() == pytest.approx(1 / 4, abs=0.08)
    twins = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert r_precision(twins, ["a", "a", "b"]).tolist() == [1, 1, 1]
    assert r_precision(twins, ["a", "c", "b"]).tolist() == [0, 0, 1]


def test_the_report_of_captioned_pictures_has_the_score_with_its_control():
    shapes, held = Shapes("train", 16, length=40), Shapes("test", 16, length=40)
    names = tuple(COLOURS)
    captions = [f"a {names[i % 3]} circle" for i in range(40)]
    colours = torch.tensor([COLOURS[names[i % 3]] for i in range(40)])
    pixels = colours.view(40, 3, 1, 1).expand(-1, -1, 16, 16) * 0.9
    scorer = ClipScorer(Brightness(), "brightness")
    report = evaluate(pixels, shapes, held=held, captions=captions, scorer=scorer, spaces=(Pixels(4),))
    rows = {row.metric: row for row in report.rows}
    score, precision = rows["CLIP score (brightness)"], rows["R-precision (brightness)"]
    assert score.value == pytest.approx(100, abs=0.01)
    assert score.control is not None
    assert 15 < score.control < 60, "a third of the captions of others say the same"
    assert score.real is not None
    assert (precision.value, precision.n, score.space) == (1.0, 40, "brightness")
    silent = evaluate(pixels, shapes, scorer=scorer, spaces=(Pixels(4),))
    assert not [row for row in silent.rows if "brightness" in row.metric], "nobody said what to show"


class Named:
    """Pictures of one grey level each, whose captions say which; every caption occurs twice."""

    def __init__(self, length: int):
        self.length = length
        self.facts = Facts("named", 3, 2, 3, frozenset({"image", "caption"}))

    def __len__(self) -> int:
        return self.length

    def batch(self, indices: Tensor) -> dict[str, object]:
        level = (indices // 2).float().view(-1, 1, 1, 1).expand(-1, 3, 2, 3)
        return {"image": level, "caption": [f"level {int(i) // 2}" for i in indices]}


class Exact(Brightness):
    """Tells levels apart by directions in a plane."""

    def encode_images(self, pixels: Tensor) -> Tensor:
        angle = pixels.mean((1, 2, 3)) / 1000
        return torch.stack([angle.cos(), angle.sin()], 1)

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        angle = torch.tensor([float(text.split()[1]) for text in texts]) / 1000
        return torch.stack([angle.cos(), angle.sin()], 1)


def test_pools_hold_different_captions_in_random_order():
    found = list(pools(Named(400), 130, size=50, seed=1))
    assert [len(captions) for _, captions in found] == [50, 50]
    for images, captions in found:
        assert len(set(captions)) == 50
        assert [f"level {int(level)}" for level in images.mean((1, 2, 3))] == captions
    assert found[0][1] != sorted(found[0][1], key=lambda text: int(text.split()[1]))
    assert next(iter(pools(Named(400), 130, size=50, seed=2)))[1] != found[0][1]
    with pytest.raises(DataError, match="'named' has 10 different captions, but 50 are compared at a time"):
        list(pools(Named(20), 130, size=50))


def test_retrieval_is_told_both_ways_with_a_control_at_chance():
    rows = {row.metric: row for row in retrieval_rows(ClipScorer(Exact(), "exact"), Named(600), 256)}
    assert len(rows) == 4
    for name, row in rows.items():
        assert (row.value, row.n, row.space) == (1.0, 256, "exact")
        assert row.control == 0.0 if "@1 " in name else row.control < 0.2
    blind = {row.metric: row.value for row in retrieval_rows(ClipScorer(Brightness(), "b"), Named(600), 128)}
    assert blind["R@1 of 128, picture to caption"] == 0.0, "who finds all alike finds nothing"
