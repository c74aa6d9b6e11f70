"""A report on generated pictures: every measure beside what real pictures and a cheap imitation get.

Which measures apply follows from what the dataset declares. Distances, precision, recall and the memorisation
guard always do; labels and captions count where an oracle can read them off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sfumato.data.dataset import Dataset
from sfumato.data.digits import Digits
from sfumato.errors import DataError, UsageError
from sfumato.metrics import oracle_faces
from sfumato.metrics.classifier import Classifier, DigitsClassifier, fashion_classifier, gaussian_control
from sfumato.metrics.clip_score import ClipScorer
from sfumato.metrics.features import (
    FeatureSpace,
    Inception,
    Oracle,
    Pixels,
    frechet_name,
    kernel_name,
)
from sfumato.metrics.frechet import Moments, frechet_distance
from sfumato.metrics.inception_score import inception_score
from sfumato.metrics.kid import kernel_distance
from sfumato.metrics.neighbours import Memorisation, memorisation, memorisation_without_held
from sfumato.metrics.oracle import caption_accuracy, evaluation_oracle
from sfumato.metrics.precision_recall import precision_recall, standard_error
from sfumato.metrics.reader import Reader
from sfumato.metrics.results import Better, Pairs, Report, Row

FEWEST = 10
BOOTSTRAPS = 10
ERROR = "standard error"
CHUNK = 1000
MOST_NEIGHBOURS = 60_000
"""Training pictures among which the nearest is sought; of larger sets a random part."""
PAIRS = 8
SHEET = 64
JUDGES: Mapping[str, Callable[[], Reader]] = {
    "shapes": evaluation_oracle,
    "faces": oracle_faces.evaluation_oracle,
}
"""Who judges pictures of a drawn world."""


@dataclass(frozen=True)
class Subject:
    """Pictures of one origin, in the same number: real, held out, generated, or the control."""

    pixels: Float[Tensor, "n c h w"]
    labels: Int[Tensor, " n"] | None = None
    captions: Sequence[str] | None = None


Others = tuple[Subject | None, Subject | None]
"""What stands beside generated pictures: held-out real ones, and a control."""


def draw(dataset: Dataset, count: int, *, seed: int = 0) -> Subject:
    """Up to ``count`` different examples of a dataset, with the labels or captions they have."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(dataset), generator=generator)[:count]
    parts = [dataset.batch(part) for part in rows.split(CHUNK)]
    pixels = torch.cat([part["image"] for part in parts])
    fields = dataset.facts.fields
    labels = torch.cat([part["label"] for part in parts]) if "label" in fields else None
    captions = [text for part in parts for text in part["caption"]] if "caption" in fields else None
    return Subject(pixels, labels, captions)


def evaluate(
    pixels: Float[Tensor, "n c h w"],
    train: Dataset,
    *,
    held: Dataset | None = None,
    labels: Int[Tensor, " n"] | None = None,
    captions: Sequence[str] | None = None,
    spaces: Sequence[FeatureSpace] | None = None,
    scorer: ClipScorer | None = None,
    model: str = "",
    seed: int = 0,
) -> Report:
    """Measure generated pictures in [-1, 1] against the pictures a model learned from.

    ``held`` are real pictures it has not seen; ``labels`` or ``captions`` are what each picture was asked to
    show. ``spaces`` None means pixels and, if there is one, the last layer of the dataset's own oracle.
    ``scorer`` is a CLIP that tells how well captions are met.
    Real pictures are drawn in the number of the generated ones, since distances with different n differ.
    """
    _check(pixels, train, labels, captions)
    classifier = classifier_of(train)
    spaces = spaces_of(train, classifier) if spaces is None else spaces
    real = draw(train, len(pixels), seed=seed)
    fresh = draw(held, len(pixels), seed=seed) if held is not None else None
    others = (fresh, Subject(gaussian_control(real.pixels, len(pixels), seed=seed)))
    generated = Subject(pixels.float(), labels, captions)
    rows: list[Row] = []
    warnings: list[str] = []
    for space in spaces:
        found, warning = _distances(space, real, generated, others, seed)
        rows += found
        warnings += [] if warning is None else [f"{space.name}: {warning}"]
    guard, row, pairs = _guard(pixels, train, fresh, seed)
    warnings += [] if guard.warning is None else [guard.warning]
    answers = [] if classifier is None else _by_label(classifier, generated, others, seed)
    answers += _by_caption(generated, others, seed) if _tells_shapes(train) else []
    answers += [] if scorer is None else _by_clip(scorer, generated, others, seed)
    sheet = pixels[:SHEET].float()
    return Report(model, train.facts.name, (*answers, *rows, row), tuple(warnings), sheet, pairs)


def _check(pixels: Tensor, train: Dataset, labels: Tensor | None, captions: Sequence[str] | None) -> None:
    facts, shape = train.facts, tuple(pixels.shape[1:])
    if len(pixels) < FEWEST or len(train) < FEWEST:
        raise UsageError(
            f"{len(pixels)} generated and {len(train)} real pictures say too little; "
            f"give at least {FEWEST} of each."
        )
    if shape != (facts.channels, facts.height, facts.width):
        raise UsageError(
            f"Generated pictures are {shape}, those of '{facts.name}' "
            f"{(facts.channels, facts.height, facts.width)} (channels, height, width); "
            "open the data at the size of the model."
        )
    if not bool(torch.isfinite(pixels).all()):
        raise DataError("Generated pictures hold NaN or infinity; try --precision fp32 or less guidance.")
    for name, given in (("labels", labels), ("captions", captions)):
        if given is not None and len(given) != len(pixels):
            raise UsageError(f"There are {len(given)} {name} for {len(pixels)} pictures; give one for each.")


def classifier_of(train: Dataset) -> Classifier | None:
    """The oracle for the labels of a dataset, if there is one."""
    if train.facts.name == "digits" and len(train.facts.classes) == 10:
        every = draw(train, len(train))
        assert every.labels is not None
        return DigitsClassifier(every.pixels, every.labels)
    return fashion_classifier() if train.facts.name == "fashion" else None


def spaces_of(train: Dataset, classifier: Classifier | None) -> tuple[FeatureSpace, ...]:
    """Pixels, and what the dataset's own oracle sees before it decides."""
    facts = train.facts
    pixels = Pixels.fitting(facts.channels, facts.height, facts.width)
    if _drawn(train) and facts.name in JUDGES:
        return pixels, Oracle(JUDGES[facts.name]())
    return (pixels, Oracle(classifier)) if classifier is not None and classifier.sure else (pixels,)


def _tells_shapes(train: Dataset) -> bool:
    return train.facts.name == "shapes" and _drawn(train)


def _drawn(train: Dataset) -> bool:
    """Our own worlds number their pictures; a folder that is named like one does not."""
    return "index" in train.facts.fields


def _distances(
    space: FeatureSpace, real: Subject, generated: Subject, others: Others, seed: int
) -> tuple[list[Row], str | None]:
    """Frechet and kernel distance, precision and recall, and in Inception its score."""
    base, ours = space.features(real.pixels), space.features(generated.pixels)
    moments, name, n = Moments.of(base), space.name, len(ours)
    sets = (ours, *(None if other is None else space.features(other.pixels) for other in others))
    distances = [None if x is None else frechet_distance(moments, Moments.of(x)) for x in sets]
    kernels = [None if x is None else kernel_distance(base, x, seed=seed) for x in sets]
    shares = [None if x is None else precision_recall(base, x) for x in sets]
    wide = _bootstrap(moments, ours, seed)
    frechet = [None if d is None else (d.value, wide) for d in distances]
    kernel = [None if k is None else (k.value, k.spread) for k in kernels]
    precision = [None if s is None else (s.precision, s.spread[0]) for s in shares]
    recall = [None if s is None else (s.recall, s.spread[1]) for s in shares]
    rows = [
        _row(frechet_name(name), name, n, "low", "bootstraps", frechet),
        _row(kernel_name(name), name, n, "low", "subsets", kernel),
        _row(f"Precision ({name})", name, n, "high", ERROR, precision),
        _row(f"Recall ({name})", name, n, "high", ERROR, recall),
    ]
    if isinstance(space, Inception):
        logits = [None if x is None else space.network.logits(x) for x in sets]
        rows.append(_score("Inception score", name, logits))
    return rows, distances[0].warning if distances[0] else None


def _row(
    metric: str, space: str, n: int, better: Better, kind: str, found: Sequence[tuple[float, float] | None]
) -> Row:
    """One measure (value, spread) of the generated pictures, and of what stands beside them."""
    ours, *others = found
    assert ours is not None
    beside = [None if other is None else other[0] for other in others]
    return Row(metric, ours[0], n, space, better, ours[1], kind, *beside)


def _bootstrap(moments: Moments, features: Tensor, seed: int) -> float:
    """Standard deviation of the distance over sets drawn with replacement; rather too wide than narrow."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(len(features), (len(features),), generator=generator) for _ in range(BOOTSTRAPS)]
    values = [frechet_distance(moments, Moments.of(features[r])).value for r in rows]
    return torch.tensor(values).std().item()


def _score(metric: str, space: str, logits: Sequence[Tensor | None]) -> Row:
    n = 0 if logits[0] is None else len(logits[0])
    splits = min(10, max(1, n // FEWEST))
    scores = [None if x is None else inception_score(x, splits=splits) for x in logits]
    found = [None if s is None else (s.value, s.spread) for s in scores]
    return _row(metric, space, n, "high", "splits", found)


def _guard(
    pixels: Tensor, train: Dataset, fresh: Subject | None, seed: int
) -> tuple[Memorisation, Row, Pairs]:
    """Are generated pictures nearer to training pictures than fresh ones are? 1 is as far; 0 is a copy."""
    space = Pixels.fitting(*pixels.shape[1:])
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:MOST_NEIGHBOURS]
    seen = torch.cat([space.features(train.batch(part)["image"]) for part in rows.split(CHUNK)])
    ours = space.features(pixels)
    if fresh is not None:
        guard = memorisation(ours, seen, space.features(fresh.pixels))
    else:
        guard = memorisation_without_held(ours, seen)
    distance = guard.generated.distance[:, 0]
    closest = distance.argsort()[:PAIRS]
    twins = train.batch(rows[guard.generated.index[closest, 0]])["image"]
    title = f"Nearest-neighbour ratio ({space.name})"
    row = Row(title, guard.ratio, len(pixels), space.name, "high", guard.spread, ERROR, 1.0, 0.0)
    return guard, row, Pairs(pixels[closest].float(), twins, distance[closest])


def _by_label(classifier: Classifier, generated: Subject, others: Others, seed: int) -> list[Row]:
    """Does a classifier of real pictures read the labels asked for? Control: the labels of other pictures."""
    fresh, name, n = others[0], classifier.name, len(generated.pixels)
    rows = []
    if generated.labels is not None:
        value = classifier.accuracy(generated.pixels, generated.labels)
        shuffled = generated.labels[torch.randperm(n, generator=torch.Generator().manual_seed(seed))]
        control = classifier.accuracy(generated.pixels, shuffled)
        real = None
        if fresh is not None and fresh.labels is not None:
            real = classifier.accuracy(fresh.pixels, fresh.labels)
        rows.append(_share("Accuracy of labels", name, (value, n), real, control))
    if classifier.sure:
        logits = [None if x is None else classifier.logits(x.pixels) for x in (generated, *others)]
        rows.append(_score(f"Classifier score ({name})", name, logits))
    return rows


def _by_caption(generated: Subject, others: Others, seed: int) -> list[Row]:
    """Does the oracle find what the captions say? Control: the captions of other pictures."""
    ours = _read(generated)
    if ours is None or generated.captions is None:
        return []
    order = torch.randperm(len(generated.pixels), generator=torch.Generator().manual_seed(seed))
    shuffled = [generated.captions[i] for i in order.tolist()]
    control = _read(Subject(generated.pixels, captions=shuffled)) or {}
    real = (None if others[0] is None else _read(others[0])) or {}
    judge = evaluation_oracle().name
    none = (None, 0)
    return [
        _share(title, judge, found, real.get(title, none)[0], control.get(title, none)[0])
        for title, found in ours.items()
    ]


def _by_clip(scorer: ClipScorer, generated: Subject, others: Others, seed: int) -> list[Row]:
    """How well a CLIP finds captions met. Control: the captions of other pictures."""
    if generated.captions is None:
        return []
    captions, n = generated.captions, len(generated.captions)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).tolist()
    sets = [generated, others[0], dataclasses.replace(generated, captions=[captions[i] for i in order])]
    name = scorer.name
    rows = []
    for title, measure in (("CLIP score", scorer.scores), ("R-precision", scorer.precision)):
        values = [None if s is None or s.captions is None else measure(s.pixels, s.captions) for s in sets]
        ours, real, control = (None if v is None else v.mean().item() for v in values)
        assert ours is not None
        assert values[0] is not None
        spread = (values[0].std() / n**0.5).item()
        rows.append(Row(f"{title} ({name})", ours, n, name, "high", spread, ERROR, real, control))
    return rows


def _read(subject: Subject) -> dict[str, tuple[float, int]] | None:
    """Title, share of right answers and number of questions, as the oracle sees it."""
    if subject.captions is None:
        return None
    found = caption_accuracy(subject.pixels, subject.captions, evaluation_oracle())
    shares = {"Captions met in full": found.all}
    for k, share in found.by_number.items():
        shares[f"Captions met in full, {k} object{'s' if k > 1 else ''}"] = share
    shares |= {f"Right: {name}": share for name, share in found.attributes.items()}
    return {title: (share.value, share.n) for title, share in shares.items() if share.n}


def _share(
    metric: str, space: str, found: tuple[float, int], real: float | None, control: float | None
) -> Row:
    value, n = found
    return Row(metric, value, n, space, "high", standard_error(value, n), ERROR, real, control)


DIGITS_LIMITS = {
    "Accuracy of labels": 0.97,
    "Precision (pixels)": 0.85,
    "Frechet distance (pixels)": 0.75,
    "Nearest-neighbour ratio (pixels)": 0.8,
}
"""What a model of digits has to reach with 600 pictures. A distance alone proves little: the Gaussian control
comes near; its precision does not."""


def digits_gate(pixels: Float[Tensor, "n 1 h w"], labels: Int[Tensor, " n"]) -> list[Row]:
    """The measures that decide about a model of digits, with limits, controls and what real digits get."""
    size = pixels.shape[-1]
    report = evaluate(
        pixels, Digits("train", size), held=Digits("test", size), labels=labels, spaces=(Pixels(),)
    )
    kept = [row for row in report.rows if not row.metric.startswith("Kernel")]
    return [dataclasses.replace(row, limit=DIGITS_LIMITS.get(row.metric)) for row in kept]
