"""CLIP score and retrieval: closed forms on vectors made for it, and rows in the report of captioned data."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torchmetrics.functional.retrieval import retrieval_hit_rate

from sfumato.core.contrastive import Contrastive
from sfumato.data.shapes import Shapes
from sfumato.metrics.clip_score import ClipScorer, clip_scores
from sfumato.metrics.features import Pixels
from sfumato.metrics.report import evaluate
from sfumato.metrics.retrieval import r_precision, ranks, recall_at

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
