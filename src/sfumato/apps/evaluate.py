"""The verb ``evaluate``: how good a run's pictures are, beside real pictures and a worthless imitation."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from sfumato.apps.bar import Bar, duration
from sfumato.apps.talk import Common, Talk, counted, table
from sfumato.errors import SfumatoError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.generate import Generate
    from sfumato.core.system import System
    from sfumato.data.dataset import Dataset
    from sfumato.metrics.clip_score import ClipScorer
    from sfumato.metrics.features import FeatureSpace
    from sfumato.metrics.results import Findings, Report, Row

SHOWN = 8
"""Examples on the page of what was made of given pictures."""
PART = 64
"""Pictures reconstructed at once."""
SEED = 1_000_000
"""Seed of the first picture: far from those that people try."""


@dataclass(frozen=True)
class Options(Common):
    """Measure how good a run's pictures are: distances, precision, recall, labels or captions met, copies;
    of a CLIP, how well it finds captions and pictures.

    Example: sfumato evaluate runs/digits --data digits --count 600

    Writes report.json and report.html (of a reader words.csv, with all it read). Every figure comes with n,
    spread, what real pictures get, and what a worthless imitation gets.
    """

    run: Annotated[Positional[str], tyro.conf.arg(metavar="RUN")]
    """A run folder, or a model that comes with the package."""
    data: str | None = None
    """The data it learned from; by default what the run says."""
    count: int = 600
    """Pictures to generate; figures of different counts do not compare."""
    out: Path | None = None
    """Where the report goes; by default the folder evaluation inside the run; of a model that comes along,
    evaluation/NAME here."""
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
    clip: str = ""
    """A CLIP that scores how well captions are met: one that comes along (clip-shapes), a run, a folder of
    transformers, OpenAI's file."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the network."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ..."""


@dataclass(frozen=True)
class Tried:
    """What a system made of fresh pictures."""

    given: Tensor
    made: Tensor
    wanted: Tensor | None
    simple: Tensor | None
    """What takes no learning: the given picture, or a plain enlargement."""
    rows: Tensor
    """Which examples they are."""

    def shown(self) -> tuple[tuple[str, Tensor], ...]:
        """Some of them, by name, for the page; what is the picture given is not shown again."""
        columns = {"given": self.given, "made": self.made, "plain": self.simple, "wanted": self.wanted}
        return tuple(
            (name, pixels[:SHOWN])
            for name, pixels in columns.items()
            if pixels is not None and (name in ("given", "made") or not pixels.equal(self.given))
        )


def main(options: Options) -> int:
    """Generate, measure, write; the table goes to stdout."""
    from sfumato.apps.load import folder_of, load
    from sfumato.core.checkpoint import RunFolder
    from sfumato.core.request import Read, Score
    from sfumato.data import open_data

    talk, folder = options.talk, folder_of(options.run)
    recipe = RunFolder.open(folder).recipe
    where = options.data or recipe.data
    system = load(folder, precision=options.precision, device=options.device)
    needs = system.needs - {"caption", "label"}  # which only training needs
    train, held = open_data(where, size=recipe.size, needs=needs), _held(where, recipe.size, needs)
    held = _apart(where, train, held, talk)
    fresh = train if held is None else held
    if Read in system.tasks:
        report, beside = _read(system, fresh, options)
    elif Score in system.tasks:
        report, beside = _compared(system, fresh, options), {}
    else:
        report, beside = _seen(system, train, held, where, options)
    for warning in report.warnings:
        talk.warn(warning)
    files = _write(report, beside, options, folder)
    head, *lines = report.table()
    talk.result(report.to_json() | {"files": [str(file) for file in files]})
    talk.show(table(head, lines))
    talk.line(str(files[-1]))
    return 0


def _apart(where: str, train: Dataset, held: Dataset | None, talk: Talk) -> Dataset | None:
    """Pictures the run has not seen, unless they are those of training under another name."""
    from sfumato.data import is_registered

    if is_registered(where) or held is None or held.facts.fingerprint != train.facts.fingerprint:
        return held
    talk.warn(
        f"'{where}' is not divided into train and test, so the pictures compared with are those it "
        "learned from; put some aside into subfolders train and test before training"
    )
    return None


def _read(system: System[Any], fresh: Dataset, options: Options) -> tuple[Findings, dict[str, str]]:
    """How well a system reads, and a table of all it read."""
    from sfumato.apps.evaluate_reading import findings, reading

    found = reading(system, fresh, options.count, options.seed, options.talk)
    return findings(found, options.run, fresh.facts.name), {"words.csv": found.csv()}


def _compared(system: System[Any], fresh: Dataset, options: Options) -> Findings:
    """How well a system that compares pictures with words finds one by the other."""
    from sfumato.core.contrastive import Contrastive
    from sfumato.metrics.clip_score import ClipScorer, retrieval_rows
    from sfumato.metrics.results import Findings

    assert isinstance(system, Contrastive)
    with Bar("comparing", options.talk):
        rows = retrieval_rows(ClipScorer(system, options.run), fresh, options.count, seed=options.seed)
    return Findings(options.run, fresh.facts.name, tuple(rows), ())


def _seen(
    system: System[Any], train: Dataset, held: Dataset | None, where: str, options: Options
) -> tuple[Findings, dict[str, str]]:
    """How good the pictures of a system are, and a page that shows them."""
    from sfumato.apps.trial import Targets
    from sfumato.core.generate import Generate
    from sfumato.metrics import page
    from sfumato.metrics.report import FEWEST, evaluate

    if options.count < FEWEST:
        raise UsageError(
            f"{counted(options.count, 'picture')} would say too little; give --count {FEWEST} or more"
        )
    talk, fresh, start = options.talk, train if held is None else held, time.monotonic()
    tried = _tried(system, fresh, options)
    if tried is None or Generate in system.tasks:
        pixels, asked = _pictures(system, fresh, options)
    else:
        pixels, asked = tried.made, _asked(fresh, tried.rows)
    if "image" not in train.facts.fields:
        train, held = Targets(train), None if held is None else Targets(held)
    talk.note(f"{counted(len(pixels), 'picture')} in {duration(time.monotonic() - start)}; measuring")
    spaces = _spaces(train, options.inception)
    scorer = _scorer(options, train)
    report = evaluate(pixels, train, held=held, model=options.run, spaces=spaces, scorer=scorer, **asked)
    if tried is not None:
        rows = (*faithful(tried), *report.rows)
        report = dataclasses.replace(report, rows=rows, answers=tried.shown())
    report = _gated(report, where)
    return report, {"report.html": page.page(report)}


def _write(report: Findings, beside: Mapping[str, str], options: Options, folder: Path) -> list[Path]:
    """The report as JSON, and what else is told; a run's card gets the figures, unless they go elsewhere."""
    from sfumato.apps import card, facts

    ours = folder.is_relative_to(facts.WEIGHTS)
    out = options.out or (Path("evaluation", folder.name) if ours else folder / "evaluation")
    out.mkdir(parents=True, exist_ok=True)
    asked = {name: getattr(options, name) for name in ("count", "seed", "steps", "solver", "guidance")}
    told = report.to_json() | {"asked": asked}
    beside = {"report.json": json.dumps(told, indent=2, ensure_ascii=False) + "\n", **beside}
    for name, text in beside.items():
        (out / name).write_text(text, encoding="utf-8")
    if options.out is None and not ours and (folder / "README.md").exists():
        card.add_figures(folder / "README.md", report.table())
    return [out / name for name in beside]


def _pictures(system: System[Any], fresh: Dataset, options: Options) -> tuple[Tensor, dict[str, Any]]:
    """What the system makes, and what each picture was asked to show, as the metrics want it."""
    from sfumato.apps.sample import Source, sample

    request, asked = questions(system, fresh, options)
    with Bar("generating", options.talk) as bar:
        return sample(system, request, Source(options.run), report=bar.update).pixels, asked


def _tried(system: System[Any], fresh: Dataset, options: Options) -> Tried | None:
    """What the system makes of fresh pictures, if it is one that answers pictures with pictures."""
    import torch

    from sfumato.apps.sample import answer
    from sfumato.apps.trial import trial
    from sfumato.core.request import Images

    generator = torch.Generator().manual_seed(options.seed)
    rows = torch.randperm(len(fresh), generator=generator)[: options.count]
    given, made, wanted, simple = [], [], [], []
    with Bar("trying", options.talk) as bar:
        for start in range(0, len(rows), PART):
            tried = trial(system, fresh.batch(rows[start : start + PART]), options.seed + start)
            if tried is None:
                return None
            given.append(tried.given)
            answered = answer(system, tried.request)
            assert isinstance(answered, Images)
            made.append(answered.pixels.float().cpu())
            wanted += [] if tried.wanted is None else [tried.wanted]
            simple += [] if tried.simple is None else [tried.simple]
            bar.update(min(1.0, (start + PART) / len(rows)))
    return Tried(
        torch.cat(given),
        torch.cat(made),
        torch.cat(wanted) if wanted else None,
        torch.cat(simple) if simple else None,
        rows,
    )


def _asked(fresh: Dataset, rows: Tensor) -> dict[str, Any]:
    """What is said of examples, which is what answers to them should show."""
    batch = fresh.batch(rows)
    asked = {"labels": batch.get("label"), "captions": batch.get("caption")}
    return {name: value for name, value in asked.items() if value is not None}


def faithful(tried: Tried) -> list[Row]:
    """How near answers come to what should have come; the control is what takes no learning."""
    from sfumato.metrics.psnr import psnr
    from sfumato.metrics.results import Row
    from sfumato.metrics.ssim import WINDOW, ssim

    if tried.wanted is None or tried.made.shape != tried.wanted.shape:
        return []
    control = tried.simple
    if control is None:  # the mean picture, which says nothing about any
        control = tried.wanted.mean(0, keepdim=True).expand_as(tried.wanted)
    measures = {"PSNR (dB)": psnr}
    if min(tried.made.shape[2:]) >= WINDOW:
        measures["SSIM"] = ssim
    rows, count = [], len(tried.made)
    for name, measure in measures.items():
        values = measure(tried.made, tried.wanted)
        spread = (values.std() / count**0.5).item() if count > 1 else None
        worthless = measure(control, tried.wanted).mean().item()
        row = Row(name, values.mean().item(), count, "pixels", "high", spread, "standard error")
        rows.append(dataclasses.replace(row, control=worthless))
    return rows


def _held(where: str, size: int, needs: frozenset[str]) -> Dataset | None:
    """Pictures the run has not seen, if the data sets some aside."""
    from sfumato.data import open_data

    try:
        return open_data(where, split="test", size=size, needs=needs)
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


def _scorer(options: Options, train: Dataset) -> ClipScorer | None:
    """The CLIP that judges captions, if the data has any."""
    from sfumato.apps.load import load
    from sfumato.core.contrastive import Contrastive
    from sfumato.metrics.clip_score import ClipScorer

    name = options.clip
    if not name or "caption" not in train.facts.fields:
        return None
    judge = load(name, precision="fp32", device=options.device)
    if not isinstance(judge, Contrastive):
        raise UsageError(f"--clip needs a CLIP, but '{name}' is a {type(judge).__name__}; leave it out")
    return ClipScorer(judge, name)


def _gated(report: Report, where: str) -> Report:
    """Digits have limits that a model of them has to reach."""
    from sfumato.metrics.report import DIGITS_LIMITS

    if where != "digits":
        return report
    rows = tuple(dataclasses.replace(row, limit=DIGITS_LIMITS.get(row.metric)) for row in report.rows)
    return dataclasses.replace(report, rows=rows)
