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
    from torch import Tensor

    from sfumato.core.generate import Generate
    from sfumato.core.system import System
    from sfumato.data.dataset import Dataset
    from sfumato.metrics.features import FeatureSpace
    from sfumato.metrics.results import Report

PART = 64
"""Pictures reconstructed at once."""
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
    from sfumato.apps.load import folder_of, load
    from sfumato.core.checkpoint import RunFolder
    from sfumato.data import open_data
    from sfumato.metrics.report import evaluate

    talk, folder = options.talk, folder_of(options.run)
    recipe = RunFolder.open(folder).recipe
    where = options.data or recipe.data
    train, held = open_data(where, size=recipe.size), _held(where, recipe.size)
    system = load(folder, precision=options.precision, device=options.device)
    start = time.monotonic()
    pixels, asked = _pictures(system, held or train, options)
    talk.note(f"{len(pixels)} pictures in {duration(time.monotonic() - start)}; measuring")
    spaces = _spaces(train, options.inception)
    report = evaluate(pixels, train, held=held, model=options.run, spaces=spaces, **asked)
    report = _gated(report, where)
    for warning in report.warnings:
        talk.warn(warning)
    files = _write(report, options, folder)
    head, *lines = report.table()
    talk.result(report.to_json() | {"files": [str(file) for file in files]})
    talk.show(table(head, lines))
    talk.line(str(files[-1]))
    return 0


def _write(report: Report, options: Options, folder: Path) -> list[Path]:
    """The report as JSON and as a page; a run's card gets the figures too, unless they go elsewhere."""
    from sfumato.apps import card, facts
    from sfumato.metrics import page

    ours = folder.is_relative_to(facts.WEIGHTS)
    out = options.out or (Path("evaluation", folder.name) if ours else folder / "evaluation")
    out.mkdir(parents=True, exist_ok=True)
    asked = {name: getattr(options, name) for name in ("count", "seed", "steps", "solver", "guidance")}
    told = report.to_json() | {"asked": asked}
    (out / "report.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "report.html").write_text(page.page(report), encoding="utf-8")
    if options.out is None and not ours and (folder / "README.md").exists():
        card.add_figures(folder / "README.md", report.table())
    return [out / "report.json", out / "report.html"]


def _pictures(system: System[Any], fresh: Dataset, options: Options) -> tuple[Tensor, dict[str, Any]]:
    """What the system makes, and what each picture was asked to show, as the metrics want it."""
    from sfumato.apps.sample import Source, sample
    from sfumato.core.request import Reconstruct

    if Reconstruct in system.tasks:
        return _reconstructions(system, fresh, options)
    request, asked = questions(system, fresh, options)
    with Bar("generating", options.talk) as bar:
        return sample(system, request, Source(options.run), report=bar.update).pixels, asked


def _reconstructions(system: System[Any], fresh: Dataset, options: Options) -> tuple[Tensor, dict[str, Any]]:
    """Fresh pictures through the system and back, with what is said of the originals."""
    import torch

    from sfumato.core.request import Images, Reconstruct
    from sfumato.metrics.report import draw

    originals = draw(fresh, options.count, seed=options.seed)
    pixels = []
    for start in range(0, len(originals.pixels), PART):
        images = originals.pixels[start : start + PART]
        with torch.no_grad():
            events = system.run(Reconstruct(images=images, count=len(images), seed=options.seed + start))
            pixels += [event.pixels.float().cpu() for event in events if isinstance(event, Images)]
    asked = {"labels": originals.labels, "captions": originals.captions}
    return torch.cat(pixels), {name: value for name, value in asked.items() if value is not None}


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
