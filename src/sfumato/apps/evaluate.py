"""The verb ``evaluate``: how good a run's pictures are, beside real pictures and a worthless imitation."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from sfumato.apps.bar import Bar, duration
from sfumato.apps.talk import Common, table
from sfumato.errors import SfumatoError

if TYPE_CHECKING:
    from sfumato.core.generate import Generate
    from sfumato.core.system import System
    from sfumato.data.dataset import Dataset
    from sfumato.metrics.features import FeatureSpace
    from sfumato.metrics.results import Report

SEED = 1_000_000
"""Seed of the first picture: far from those that people try."""


@dataclass(frozen=True)
class Options(Common):
    """Measure how good a run's pictures are: distances, precision, recall, labels or captions met, copies.

    Example: sfumato evaluate runs/digits --data digits --count 600

    Writes report.json and report.html. Every figure comes with n, spread, what real pictures get, and what
    a worthless imitation gets.
    """

    run: Positional[str]
    """A run folder, or a model that comes with the package."""
    data: str | None = None
    """The data it learned from; by default what the run says."""
    count: int = 600
    """Pictures to generate; figures of different counts do not compare."""
    out: Path | None = None
    """Where the report goes; by default the folder evaluation inside the run."""
    seed: int = SEED
    """The first picture's seed."""
    steps: int | None = None
    """How many steps the solver takes; by default the system's own."""
    solver: str | None = None
    """Name of the solver; by default the system's own."""
    guidance: float | None = None
    """How strongly to follow the label or caption; by default the system's own."""
    inception: Path | None = None
    """InceptionV3's weights in pytorch-fid's layout; adds the figures that may be called FID."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the network."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ..."""


def main(options: Options) -> int:
    """Generate, measure, write; the table goes to stdout."""
    from sfumato.apps import card
    from sfumato.apps.load import folder_of, load
    from sfumato.apps.sample import Source, sample
    from sfumato.core.checkpoint import RunFolder
    from sfumato.data import open_data
    from sfumato.metrics import page
    from sfumato.metrics.report import evaluate

    talk, folder = options.talk, folder_of(options.run)
    recipe = RunFolder.open(folder).recipe
    where = options.data or recipe.data
    train = open_data(where, size=recipe.size)
    held = _held(where, recipe.size)
    system = load(folder, precision=options.precision, device=options.device)
    request, asked = questions(system, held or train, options)
    start = time.monotonic()
    with Bar("generating", talk) as bar:
        pictures = sample(system, request, Source.of(folder, options.run), report=bar.update)
    talk.note(f"{len(pictures)} pictures in {duration(time.monotonic() - start)}; measuring")
    spaces = _spaces(train, options.inception)
    report = evaluate(pictures.pixels, train, held=held, model=options.run, spaces=spaces, **asked)
    report = _gated(report, where)
    for warning in report.warnings:
        talk.warn(warning)
    out = options.out or folder / "evaluation"
    out.mkdir(parents=True, exist_ok=True)
    told = report.to_json() | {"count": len(pictures), "seed": options.seed, "request": pictures.settings[0]}
    (out / "report.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.html").write_text(page.page(report), encoding="utf-8")
    if (folder / "README.md").exists() and options.out is None:
        card.add_figures(folder / "README.md", report.table())
    head, *lines = report.table()
    talk.result(told | {"files": [str(out / "report.json"), str(out / "report.html")]})
    talk.show(table(head, lines))
    talk.line(str(out / "report.html"))
    return 0


def _held(where: str, size: int) -> Dataset | None:
    """Pictures the run has not seen, if the data sets some aside."""
    from sfumato.data import open_data

    try:
        return open_data(where, split="test", size=size)
    except SfumatoError:
        return None


def questions(system: System[Any], fresh: Dataset, options: Options) -> tuple[Generate, dict[str, Any]]:
    """What to ask of the system, and the same as the metrics want it: labels in turn, or fresh captions."""
    import torch

    from sfumato.core.generate import Generate, in_turn

    facts, count = fresh.facts, options.count
    request = Generate(
        count=count, seed=options.seed, steps=options.steps, solver=options.solver, guidance=options.guidance
    )
    if "label" in system.hears and facts.classes:
        every = tuple(range(len(facts.classes)))
        labels = torch.tensor(in_turn(every, range(count)))
        return dataclasses.replace(request, label=every), {"labels": labels}
    if "caption" in system.hears and "caption" in facts.fields:
        rows = torch.randperm(len(fresh), generator=torch.Generator().manual_seed(options.seed))[:count]
        captions = in_turn(tuple(fresh.batch(rows)["caption"]), range(count))
        return dataclasses.replace(request, prompt=tuple(captions)), {"captions": captions}
    return request, {}


def _spaces(train: Dataset, inception: Path | None) -> tuple[FeatureSpace, ...] | None:
    if inception is None:
        return None
    from sfumato.metrics.features import Inception
    from sfumato.metrics.report import classifier_of, spaces_of

    return (*spaces_of(train, classifier_of(train)), Inception.open(inception))


def _gated(report: Report, where: str) -> Report:
    """Digits have limits that a model of them has to reach."""
    from sfumato.metrics.report import DIGITS_LIMITS

    if where != "digits":
        return report
    rows = tuple(dataclasses.replace(row, limit=DIGITS_LIMITS.get(row.metric)) for row in report.rows)
    return dataclasses.replace(report, rows=rows)
