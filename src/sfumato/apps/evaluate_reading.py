"""How well a run reads: error rates on texts it has not seen, beside what wrong texts would get."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sfumato.apps.bar import Bar
from sfumato.apps.sample import answer
from sfumato.apps.talk import Talk
from sfumato.core.request import Read, Text
from sfumato.core.system import System
from sfumato.data.dataset import Dataset
from sfumato.metrics.results import Better, Findings, Row
from sfumato.metrics.text_errors import TextErrors, distance

PART = 64
"""Pictures read at once."""
COLUMNS = ("number", "text", "read", "confidence", "edits")


@dataclass(frozen=True)
class Reading:
    """Pictures that were read."""

    numbers: tuple[int, ...]
    """Which examples they are."""
    true: tuple[str, ...]
    read: tuple[str, ...]
    confidence: tuple[float, ...]

    def csv(self) -> str:
        """A row a picture."""
        out = io.StringIO()
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(COLUMNS)
        columns = (self.numbers, self.true, self.read, self.confidence)
        for number, true, read, sure in zip(*columns, strict=True):
            rows.writerow((number, true, read, f"{sure:.4f}", distance(read, true)))
        return out.getvalue()


def reading(system: System[Any], data: Dataset, count: int, seed: int, talk: Talk) -> Reading:
    """Up to ``count`` different examples, chosen by the seed, and what the system reads in them."""
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count]
    true: list[str] = []
    read: list[str] = []
    sure: list[float] = []
    with Bar("reading", talk) as bar:
        for part in rows.split(PART):
            batch = data.batch(part)
            found = answer(system, Read(images=batch["image"], count=len(part)))
            assert isinstance(found, Text)
            true += batch["text"]
            read += found.texts
            sure += found.confidence
            bar.update(len(true) / len(rows))
    return Reading(tuple(rows.tolist()), tuple(true), tuple(read), tuple(sure))


def findings(found: Reading, model: str, data: str) -> Findings:
    """Error rates; the control takes for every picture the text of another."""
    errors = TextErrors.of(found.read, found.true)
    wrong = TextErrors.of(_others(found.true), found.true)
    n = len(found.true)
    told: tuple[tuple[str, Better, float, float, float], ...] = (
        ("Character error rate", "low", errors.cer, errors.spread_of_cer(), wrong.cer),
        ("Word error rate", "low", errors.wer, errors.spread_of_wer(), wrong.wer),
        ("Pictures read without error", "high", errors.accuracy, errors.spread_of_accuracy(), wrong.accuracy),
    )
    rows = [
        Row(name, value, n, "text", better, spread, "standard error", control=control)
        for name, better, value, spread, control in told
    ]
    return Findings(model, data, tuple(rows), ())


def _others(texts: Sequence[str]) -> list[str]:
    """To each the next text."""
    return [*texts[1:], texts[0]]
