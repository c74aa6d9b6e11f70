"""Draw several pictures for each that is wanted, and keep the one that a judge finds closest to its words."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sfumato.apps.load import folder_of, load
from sfumato.apps.pictures import Pictures
from sfumato.apps.sample import Report, Source, answer, check_can, models_for, others, sample, silent, within
from sfumato.core.generate import Generate
from sfumato.core.request import Ranking, Score
from sfumato.core.system import System
from sfumato.errors import UsageError

JUDGED = 64
"""Pictures judged at a time."""


def drawn(
    system: System[Any],
    request: Generate,
    source: Source,
    *,
    best_of: int = 1,
    judge: str | os.PathLike[str] = "",
    keep_history: bool = False,
    report: Report = silent,
) -> Pictures:
    """Serve a request for new pictures; of ``best_of`` drawn for each, the one closest to its prompt.

    ``judge`` is a model that scores pictures, without a name the first that comes with the package. Raises
    ``UsageError`` if there is none, and for what makes no sense together.
    """
    if best_of < 1:
        raise UsageError(f"--best-of must be at least 1, got {best_of}")
    if best_of == 1:
        if judge:
            raise UsageError("A judge chooses among several pictures; say among how many with --best-of")
        return sample(system, request, source, keep_history=keep_history, report=report)
    if keep_history:
        raise UsageError("Of the best of several pictures no history is kept; leave one of the two out")
    name = os.fspath(judge) or next(iter(models_for(Score)), "")
    if not name:
        raise UsageError(f"No model that comes along scores pictures; give one with --judge. {others(Score)}")
    scorer = load(folder_of(name), device=str(system.device))
    check_can(scorer, Score)
    return best(system, request, source, scorer, name, best_of, report=report)


def best(
    system: System[Any],
    request: Generate,
    source: Source,
    judge: System[Any],
    name: str,
    many: int,
    *,
    report: Report = silent,
) -> Pictures:
    """Of ``many`` pictures for each wanted, the one with the highest score (Ramesh et al. 2021, section 2.6).

    Picture i is chosen among the seeds from ``request.seed + many * i`` on. Its settings make it again
    without a judge, and tell the score.
    """
    wide = candidates(request, many)
    if not all(wide.prompt):
        raise UsageError("The best pictures are those closest to their words; give a prompt.")
    pictures = sample(system, wide, source, report=within(report, 0, 2))
    scores, notes = scored(judge, pictures, within(report, 1, 2))
    chosen = (torch.arange(0, len(pictures), many) + scores.view(-1, many).argmax(1)).tolist()
    kept = pictures.pick(chosen)
    told = [{"best_of": many, "judge": name, "score": round(float(scores[k]), 4)} for k in chosen]
    settings = tuple(dict(one) | more for one, more in zip(kept.settings, told, strict=True))
    return replace(kept, settings=settings, notes=tuple(dict.fromkeys((*kept.notes, *notes))))


def candidates(request: Generate, many: int) -> Generate:
    """The request for ``many`` pictures in place of each, all of the same prompt and label.

    >>> candidates(Generate(prompt=("a", "b"), count=3), 2).prompt
    ('a', 'a', 'b', 'b', 'a', 'a')
    """
    each = [request.part(i, i + 1) for i in range(request.count) for _ in range(many)]
    prompts = tuple(one.prompt if isinstance(one.prompt, str) else one.prompt[0] for one in each)
    label = request.label
    if isinstance(label, tuple):
        label = tuple(one.label[0] for one in each if isinstance(one.label, tuple))
    return replace(request, count=len(each), prompt=prompts, label=label)


def scored(judge: System[Any], pictures: Pictures, report: Report) -> tuple[Tensor, tuple[str, ...]]:
    """How well every picture goes with its own caption, and what the judge had to leave out."""
    scores, notes = torch.zeros(len(pictures)), list[str]()
    for rows in torch.arange(len(pictures)).split(JUDGED):
        captions = [pictures.captions[i] for i in rows.tolist()]
        texts = tuple(dict.fromkeys(captions))
        ranking = answer(judge, Score(images=pictures.pixels[rows], texts=texts))
        assert isinstance(ranking, Ranking)
        mine = [texts.index(caption) for caption in captions]
        scores[rows] = ranking.scores.float().cpu()[torch.arange(len(rows)), mine]
        notes += ranking.notes
        report(float(rows[-1] + 1) / len(pictures))
    return scores, tuple(notes)
