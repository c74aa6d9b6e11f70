"""What every system promises, over all of the registry: a new system is covered without a word here.

Each is taken with its first preset, the one for a laptop, as it is: only batch and steps are cut, and layers
that start at zero are woken, since they would hide everything that lies before them.
"""

from __future__ import annotations

import json
import tomllib
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import config as plain
from sfumato.apps import facts as told
from sfumato.apps.load import load
from sfumato.apps.settings import leaves, override
from sfumato.core.checkpoint import RunFolder
from sfumato.core.recipe import Recipe
from sfumato.core.request import (
    Branch,
    Caption,
    Complete,
    Dream,
    Edit,
    Embeddings,
    Generate,
    Images,
    Imagine,
    Interpolate,
    Invert,
    Layout,
    Letters,
    Mix,
    Progress,
    Ranking,
    Read,
    Reconstruct,
    Request,
    Result,
    Score,
    Stylize,
    Text,
    TextDiff,
    Translate,
    Upscale,
    Vary,
    Video,
    Walk,
)
from sfumato.core.rng import Rng
from sfumato.core.system import Preset, System, TrainConfig
from sfumato.core.trainer import Report, Trainer
from sfumato.data import open_data
from sfumato.data.boxes import Box
from sfumato.data.dataset import Dataset, Facts, Subset
from sfumato.data.shapes import Shapes
from sfumato.errors import UsageError
from sfumato.images import save_png, to_pil
from sfumato.registry import SYSTEMS, find

BATCH, COUNT, SEED, STEPS = 4, 3, 5, 2
GREY_LEVEL = 1 / 127.5
LONGEST = 100
BUILT_UPON = {find(name, SYSTEMS, "system").stands_on for name in SYSTEMS} | {
    preset.base[0]
    for name in SYSTEMS
    for preset in find(name, SYSTEMS, "system").presets.values()
    if preset.base
}
PRESETS = [(name, preset) for name in SYSTEMS for preset in find(name, SYSTEMS, "system").presets]


class Odd:
    """A dataset like none of ours: grey, not square, with classes and captions."""

    facts = Facts(
        "odd",
        channels=1,
        height=24,
        width=40,
        fields=frozenset({"image", "source", "a", "b", "label", "caption", "text", "boxes"}),
        classes=("plain", "wavy", "loud"),
        words=("plain", "wavy", "loud", "picture"),
        characters="adilnopuvwy",
        fingerprint="odd",
        things=("plain wave", "loud wave"),
    )

    def __len__(self) -> int:
        return 7

    def batch(self, indices: Tensor) -> Mapping[str, Any]:
        waves = torch.arange(24.0 * 40).view(1, 1, 24, 40) * (1 + indices.view(-1, 1, 1, 1))
        label = indices % 3
        captions = [f"{self.facts.classes[i]} picture" for i in label.tolist()]
        image = torch.sin(waves / 50)
        others = {"source": image.sign(), "a": image, "b": -image}
        others |= {"text": [self.facts.classes[i] for i in label.tolist()]}
        others |= {"boxes": torch.tensor([2, 0.1, 0.2, 0.5, 0.9]).repeat(len(indices), 3, 1)}
        return {"image": image, "label": label, "caption": captions} | others


# --- a system, trained for a moment ------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A system with its laptop preset, a little data, and a run of two steps on disk."""

    name: str
    kind: type[System[Any]]
    preset: Preset
    data: Dataset
    folder: Path


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Pictures on disk with captions and classes, for presets that want your own."""
    folder = tmp_path_factory.mktemp("photos")
    shapes = Shapes("test", 48, length=8)
    batch = shapes.batch(torch.arange(8))
    for i, (image, caption) in enumerate(zip(batch["image"], batch["caption"], strict=True)):
        file = folder / ("even", "odd")[i % 2] / f"{i}.png"
        save_png(to_pil(image[:, : 40 + i]), file)
        file.with_suffix(".txt").write_text(caption)
    return folder


@pytest.fixture(scope="module", params=SYSTEMS)
def case(request, photos, tmp_path_factory) -> Case:
    name = request.param
    kind = find(name, SYSTEMS, "system")
    preset = next(iter(kind.presets.values()))
    where = str(photos) if preset.data == "folder" else preset.data
    whole = open_data(where, size=preset.size, needs=kind.needs)
    data = Subset(whole, range(min(8, len(whole))))
    path = tmp_path_factory.mktemp("runs") / name
    system = built(kind, preset, data.facts)
    recipe = Recipe(name, plain.to_dict(system.config), data=where, size=preset.size)
    folder = RunFolder.create(path, recipe)
    if kind.stands_on:
        folder.write_model(system.state_dict())
    else:
        trained(system, preset, data, 2, folder)
    return Case(name, kind, preset, data, path)


@pytest.fixture(scope="module")
def model(case) -> System[Any]:
    """What a user has: the run, loaded."""
    return load(case.folder, precision="fp32", device="cpu")


@pytest.fixture(scope="module")
def answers(case, model) -> dict[type[Request], tuple[list[Progress], Result]]:
    """What the model answers to one request of each of its tasks; many tests ask for just that."""
    return {task: served(model, ASK[task](model, case.data, range(COUNT))) for task in model.tasks}


@pytest.fixture(scope="module")
def said(answers) -> dict[type[Request], Tensor]:
    """The same in numbers."""
    return {task: numbers(result) for task, (_, result) in answers.items()}


def built(kind: type[System[Any]], preset: Preset, facts: Facts) -> System[Any]:
    """The preset's system for a dataset, upon an untrained base of the preset's own kind if it needs one."""
    torch.manual_seed(0)
    system = kind(kind.fit(preset.config, facts))
    if preset.base is not None:
        below = find(preset.base[0], SYSTEMS, "system")
        system.adopt(built(below, below.presets[preset.base[1]], facts))
    for p in system.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.03)
    return system


def trained(
    system: System[Any], preset: Preset, data: Dataset, steps: int, folder: RunFolder | None = None
) -> list[Report]:
    """Train by the preset's own rules; only batch and steps are cut."""
    settings = replace(preset.train, steps=steps, batch=BATCH, accumulate=1, precision="fp32", log_every=1)
    return list(Trainer(system, data, settings, folder, device=torch.device("cpu")).run())


# --- what one asks, by kind of request: a new kind of request adds an entry --------------------------


def generate(system: System[Any], data: Dataset, rows: range) -> Generate:
    request = Generate(seed=SEED, count=COUNT, steps=STEPS, guidance=2.0)
    if "caption" in system.hears:
        request = replace(request, prompt=("a red circle", "", "two objects on a white background"))
    if "label" in system.hears:
        request = replace(request, label=(1, 0))
    return request.part(rows.start, rows.stop)


def reconstruct(system: System[Any], data: Dataset, rows: range) -> Reconstruct:
    images = data.batch(torch.arange(rows.start, rows.stop))["image"]
    return Reconstruct(seed=SEED + rows.start, count=len(rows), images=images)


def read(system: System[Any], data: Dataset, rows: range) -> Read:
    images = data.batch(torch.arange(rows.start, rows.stop))["image"]
    return Read(seed=SEED + rows.start, count=len(rows), images=images)


def few(system: System[Any]) -> int | None:
    """Steps of a solver, for systems that have one."""
    return STEPS if "steps" in {field.name for field in fields(system.config)} else None


def upscale(system: System[Any], data: Dataset, rows: range) -> Upscale:
    images = data.batch(torch.arange(rows.start, rows.stop))["image"]
    small = images[:, :, :16, :20]
    return Upscale(seed=SEED + rows.start, count=len(rows), images=small, steps=few(system))


def vary(system: System[Any], data: Dataset, rows: range) -> Vary:
    images = data.batch(torch.arange(rows.start, rows.stop))["image"]
    return Vary(seed=SEED + rows.start, count=len(rows), images=images, steps=STEPS)


def translate(system: System[Any], data: Dataset, rows: range) -> Translate:
    batch = data.batch(torch.arange(rows.start, rows.stop))
    images = batch["source" if "source" in system.needs else "a"]
    return Translate(seed=SEED + rows.start, count=len(rows), images=images)


def stylize(system: System[Any], data: Dataset, rows: range) -> Stylize:
    field = "a" if "a" in system.needs else "image"
    images = data.batch(torch.arange(rows.start, rows.stop))[field]
    strange, large = data.batch(torch.arange(5, 7))[field]
    styles = (strange[:, :20], large) if "style" in system.hears else ()
    steps = STEPS if system.stands_on else None
    return Stylize(seed=SEED + rows.start, count=len(rows), images=images, styles=styles, steps=steps)


def dream(system: System[Any], data: Dataset, rows: range) -> Dream:
    images = data.batch(torch.arange(rows.start, rows.stop))["image"]
    return Dream(seed=SEED + rows.start, count=len(rows), images=images, octaves=2, steps=2)


def caption(system: System[Any], data: Dataset, rows: range) -> Caption:
    images = data.batch(torch.arange(rows.start, rows.stop))["image"]
    return Caption(seed=SEED + rows.start, count=len(rows), images=images, temperature=1.0)


def complete(system: System[Any], data: Dataset, rows: range) -> Complete:
    images = data.batch(torch.arange(rows.start, rows.stop))["image"]
    return Complete(seed=SEED + rows.start, count=len(rows), images=images, prompt="a red circle")


def letters(system: System[Any], data: Dataset, rows: range) -> Letters:
    images = data.batch(torch.arange(rows.start, rows.stop))["source"]
    seed, count = SEED + rows.start, len(rows)
    return Letters(seed=seed, count=count, images=images, font=1, towards=0, share=0.3)


def invert(system: System[Any], data: Dataset, rows: range) -> Invert:
    images = data.batch(torch.arange(rows.start, rows.stop))["image"]
    return Invert(seed=SEED + rows.start, count=len(rows), images=images, steps=2)


def walk(system: System[Any], data: Dataset, rows: range) -> Walk:
    return Walk(seed=SEED + rows.start, count=len(rows), frames=2, steps=few(system))


def branch(system: System[Any], data: Dataset, rows: range) -> Branch:
    return Branch(seed=SEED + rows.start, count=len(rows), steps=4)


def mix(system: System[Any], data: Dataset, rows: range) -> Mix:
    seed = SEED + rows.start
    return Mix(seed=seed, count=1, coarse=(seed, seed + 1), fine=(seed + 2,))


def interpolate(system: System[Any], data: Dataset, rows: range) -> Interpolate:
    images = data.batch(torch.arange(rows.start, rows.stop))["image"]
    return Interpolate(seed=SEED + rows.start, count=len(rows), images=images, frames=2, steps=STEPS)


def textdiff(system: System[Any], data: Dataset, rows: range) -> TextDiff:
    images = data.batch(torch.arange(rows.start, rows.stop))["image"]
    words = {"source": "a red circle", "target": "a wavy blue star"}
    return TextDiff(seed=SEED + rows.start, count=len(rows), images=images, steps=STEPS, theta=0.7, **words)


def edit(system: System[Any], data: Dataset, rows: range) -> Edit:
    seed, count = SEED + rows.start, len(rows)
    if "caption" in system.hears:  # who follows words paints inside a mask
        images = data.batch(torch.arange(rows.start, rows.stop))["image"]
        mask = torch.zeros_like(images[:, :1])
        mask[..., 4:16, 10:21] = 1
        steps = few(system)
        return Edit(seed=seed, count=count, prompt="a red circle", images=images, mask=mask, steps=steps)
    classes = data.facts.classes if "label" in system.needs else ()
    prompt = "{} - {} + {}".format(*classes) if len(classes) > 2 else "red circle - red square + blue square"
    return Edit(seed=seed, count=count, prompt=prompt)


def score(system: System[Any], data: Dataset, rows: range) -> Score:
    images = data.batch(torch.arange(rows.start, rows.stop))["image"]
    return Score(seed=SEED + rows.start, count=len(rows), images=images, texts=("a red circle", "plain"))


def imagine(system: System[Any], data: Dataset, rows: range) -> Imagine:
    prompts = ("a red circle", "two objects on a white background", "plain")[rows.start : rows.stop]
    return Imagine(seed=SEED + rows.start, count=len(rows), prompt=prompts, guidance=2.0, steps=STEPS)


def layout(system: System[Any], data: Dataset, rows: range) -> Layout:
    things = system.config.boxes.things
    layouts = tuple((Box(things[i % len(things)], 0.1 * i, 0.2, 0.4, 0.5 + 0.1 * i),) for i in rows)
    return Layout(seed=SEED + rows.start, count=len(rows), layouts=layouts, steps=STEPS)


Ask = Callable[[System[Any], Dataset, range], Request]
APART: dict[type[Request], Ask] = {
    Dream: dream,
    Caption: caption,
    Complete: complete,
    Generate: generate,
    Imagine: imagine,
    Invert: invert,
    Layout: layout,
    Letters: letters,
    Read: read,
    Reconstruct: reconstruct,
    Score: score,
    Stylize: stylize,
    TextDiff: textdiff,
    Translate: translate,
    Upscale: upscale,
    Vary: vary,
}
"""Requests whose answers have nothing to do with each other."""
ASK: dict[type[Request], Ask] = APART | {
    Branch: branch,
    Edit: edit,
    Interpolate: interpolate,
    Mix: mix,
    Walk: walk,
}


def answered(request: Request) -> int:
    """How many pictures, or films, answer a request."""
    match request:
        case Mix():
            return len(request.coarse) * len(request.fine)
        case Interpolate() | Walk():
            return 1
    return request.count


@torch.no_grad()  # The checks of types hide from `run`'s own no_grad that it is a generator.
def served(system: System[Any], request: Request) -> tuple[list[Progress], Result]:
    *progress, result = system.run(request)
    assert all(isinstance(event, Progress) for event in progress)
    assert isinstance(result, ANSWERS.get(type(request), Images))
    return progress, result


ANSWERS: dict[type[Request], type[Result]] = {
    Caption: Text,
    Imagine: Embeddings,
    Interpolate: Video,
    Read: Text,
    Score: Ranking,
    Walk: Video,
}
"""What answers a request that does not ask for pictures."""


def values(result: Result) -> Tensor:
    """What an answer says, in numbers."""
    match result:
        case Text():
            return torch.tensor(result.confidence)
        case Ranking():
            return result.scores
        case Embeddings():
            return result.vectors
    return result.pixels


def numbers(result: Result) -> Tensor:
    """All an answer says, texts letter by letter."""
    if not isinstance(result, Text):
        return values(result)
    letters = torch.zeros(len(result.texts), 1 + LONGEST)
    letters[:, 0] = torch.tensor(result.confidence)
    for row, text in zip(letters, result.texts, strict=True):
        row[1 : len(text) + 1] = torch.tensor([1000.0 * ord(c) for c in text])
    return letters


def pictures(
    system: System[Any], data: Dataset, rows: range = range(COUNT), asks: Mapping[type[Request], Ask] = ASK
) -> list[Tensor]:
    """The answers to one request of each task, of those in ``asks``."""
    return [numbers(served(system, asks[t](system, data, rows))[1]) for t in system.tasks if t in asks]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# --- training ----------------------------------------------------------------------------------------


def test_one_step_moves_every_player_and_nothing_else(case):
    system = built(case.kind, case.preset, case.data.facts)
    before = {name: p.detach().clone() for name, p in system.named_parameters()}
    if case.kind.stands_on:
        with pytest.raises(UsageError, match="has nothing to train"):
            trained(system, case.preset, case.data, 1)
        return
    [report] = trained(system, case.preset, case.data, 1)
    moved = {name for name, p in system.named_parameters() if not torch.equal(p, before[name])}
    players = system.players()
    theirs = {id(p) for player in players.values() for p in player.parameters()}
    assert moved == {name for name, p in system.named_parameters() if id(p) in theirs}

    logs = report.values()
    assert {key.split("/")[0] for key in logs} == players.keys()
    assert all(f"{name}/norm" in logs and len(logs) > len(players) for name in players)
    assert torch.tensor(list(logs.values())).isfinite().all(), logs


def test_it_fits_itself_to_a_dataset_or_says_why_not(case):
    data, facts = Odd(), Odd.facts
    try:
        system = built(case.kind, case.preset, facts)
    except UsageError as error:
        refusal = str(error)
        assert "24 x 40" in refusal
        return
    if not case.kind.stands_on:
        [report] = trained(system, case.preset, data, 1)
        assert torch.tensor(list(report.values().values())).isfinite().all()
    system.eval()
    for task in system.tasks:
        if task is not Edit:  # whose words belong to a dataset
            request = ASK[task](system, data, range(COUNT))
            check_shape(request, values(served(system, request)[1]), facts)


# --- serving -----------------------------------------------------------------------------------------


def test_every_task_is_served_by_progress_and_one_result(case, model, answers):
    facts = case.data.facts
    assert answers or case.name in BUILT_UPON
    for task, (progress, result) in answers.items():
        request = ASK[task](model, case.data, range(COUNT))
        answer = values(result)
        check_shape(request, answer, facts)
        assert answer.dtype == torch.float32
        assert answer.isfinite().all()
        assert -1 <= answer.min() < answer.max() <= 1
        if task in APART and isinstance(result, Images):
            assert result.seeds == tuple(range(SEED, SEED + COUNT))
        done = [event.done for event in progress]
        assert done == sorted(done)
        assert all(0 < share <= 1 for share in done)
        for look in [event.preview for event in progress if event.preview is not None]:
            assert look().shape == answer.shape


def check_shape(request: Request, pixels: Tensor, facts: Facts) -> None:
    """As many pictures as were asked for, with the dataset's channels and size, or a multiple of it."""
    if isinstance(request, Score | Imagine):
        assert len(pixels) == request.count
        return
    if isinstance(request, Caption | Read):
        assert pixels.shape == (request.count,)
        return
    height, width = facts.height, facts.width
    if isinstance(request, Upscale):
        height, width = request.images.shape[2:]
        factor = pixels.shape[2] // height
        assert factor > 1
        height, width = factor * height, factor * width
    assert pixels.shape[-3:] == (facts.channels, height, width)
    assert len(pixels) == answered(request)
    if isinstance(request, Interpolate | Walk):
        assert pixels.shape[1] == request.frames * (request.count - 1) + 1


def test_its_preview_is_a_request_that_it_serves(model):
    request = model.preview(2, SEED)
    if request is None:
        return
    assert isinstance(request, model.tasks)
    assert (request.count, request.seed) == (2, SEED)
    if isinstance(request, Generate):
        request = replace(request, steps=2)
    assert len(numbers(served(model, request)[1])) == 2


def test_what_it_hears_changes_the_picture(case, model):
    other: dict[str, tuple[Ask, dict[str, Any]]] = {
        "caption": (generate if Generate in model.tasks else edit, {"prompt": "a blue cross"}),
        "label": (generate, {"label": 2}),
        "truncation": (generate, {"truncation": 0.2}),
        "temperature": (generate, {"temperature": 0.0}),
        "top_k": (generate, {"top_k": 1}),
        "prior": (generate, {"prior": "none"}),
        "threshold": (generate, {"threshold": "static:0.1"}),
        "style": (stylize, {"weights": (5.0, 1.0)}),
    }
    for sense in model.hears:
        ask, change = other[sense]
        request = ask(model, case.data, range(1))
        changed = replace(request, **change)
        assert not torch.equal(*(numbers(served(model, asked)[1]) for asked in (request, changed))), sense


def test_saved_and_loaded_it_answers_the_same(case, model, said, tmp_path):
    folder = RunFolder.create(tmp_path / "copy", Recipe(case.name, plain.to_dict(model.config)))
    folder.write_model(model.state_dict())
    assert equal(pictures(load(folder.path, precision="fp32", device="cpu"), case.data), list(said.values()))
    assert all(finding.whole for finding in RunFolder(case.folder).verify())

    rebuilt = case.kind(plain.from_dict(case.kind.Config, plain.to_dict(model.config))).eval()
    rebuilt.load_state_dict(model.state_dict())  # in another memory layout than `load` chooses
    for one, other in zip(pictures(rebuilt, case.data), said.values(), strict=True):
        assert (one - other).abs().max() <= GREY_LEVEL


def test_it_answers_in_half_precision(case):
    for answer in pictures(load(case.folder, precision="bf16", device="cpu"), case.data):
        assert answer.dtype == torch.float32
        assert answer.isfinite().all()


# --- seeds -------------------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch) -> dict[int, list[Tensor]]:
    """Whatever is drawn in this test, by the seed of its stream."""
    seen: dict[int, list[Tensor]] = defaultdict(list)
    for name in ("normal", "uniform", "integers", "chi_square"):

        def draw(rng: Rng, *arguments: Any, original: Any = getattr(Rng, name)) -> Tensor:
            values = original(rng, *arguments)
            for seed, value in zip(rng.seeds, values, strict=True):
                seen[seed].append(value.clone())
            return values

        monkeypatch.setattr(Rng, name, draw)
    return seen


def test_same_seed_same_sample_and_no_other_source_of_chance(case, model, said, drawn):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert equal(pictures(model, case.data), list(said.values()))
    assert torch.equal(torch.get_rng_state(), before), "it drew from the global generator"
    for task in APART.keys() & said.keys():
        drawn.clear()
        request = replace(ASK[task](model, case.data, range(COUNT)), seed=SEED + 100)
        assert torch.equal(numbers(served(model, request)[1]), said[task]) == (not drawn), task


def test_a_sample_does_not_depend_on_its_neighbours(case, model, drawn):
    together = pictures(model, case.data, asks=APART)
    in_company = {seed: list(values) for seed, values in drawn.items()}
    assert in_company.keys() in (set(range(SEED, SEED + COUNT)), set())
    for i in range(COUNT):
        drawn.clear()
        alone = pictures(model, case.data, range(i, i + 1), asks=APART)
        assert drawn.keys() == in_company.keys() & {SEED + i}
        assert equal(drawn[SEED + i], in_company.get(SEED + i, [])), "noise must be the same bit for bit"
        for many, one in zip(together, alone, strict=True):
            assert (many[i] - one[0]).abs().max() <= GREY_LEVEL


def test_a_sample_does_not_depend_on_chunks(case, model, said):
    if "chunk" not in {field.name for field in fields(model.config)}:
        return
    small = case.kind(replace(model.config, chunk=2)).eval()
    small.load_state_dict(model.state_dict())
    for whole, parts in zip(said.values(), pictures(small, case.data), strict=True):
        assert (whole - parts).abs().max() <= GREY_LEVEL


# --- settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_every_preset_builds_and_goes_through_json(name, preset):
    kind = find(name, SYSTEMS, "system")
    given = kind.presets[preset]
    with torch.device("meta"):
        assert bool(kind(given.config).players()) != bool(kind.stands_on)
    written = json.dumps(plain.to_dict(given.config))
    assert plain.from_dict(kind.Config, json.loads(written)) == given.config
    train = json.dumps(plain.to_dict(given.train))
    assert plain.from_dict(TrainConfig, json.loads(train)) == given.train
    assert given.train.batch % given.train.accumulate == 0
    assert not kind.stands_on or given.base
    if given.base is not None:
        assert given.base[1] in find(given.base[0], SYSTEMS, "system").presets


@pytest.mark.parametrize("name", SYSTEMS)
def test_an_unknown_setting_is_refused_with_a_suggestion(name):
    kind = find(name, SYSTEMS, "system")
    config = next(iter(kind.presets.values())).config
    known = plain.to_dict(config)
    for key in known.keys() - {plain.TAG}:
        with pytest.raises(UsageError, match=f"has no setting '{key}z'; did you mean '"):
            plain.from_dict(kind.Config, known | {f"{key}z": known[key]})
    for key in leaves(config):
        with pytest.raises(UsageError, match=f"'--{key}z' is no setting of .*; did you mean '--"):
            override(config, [f"--{key}z", "1"], name)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_setting_of_the_wrong_type_is_refused(name):
    kind = find(name, SYSTEMS, "system")
    config = next(iter(kind.presets.values())).config
    known = plain.to_dict(config)
    for key in known.keys() - {plain.TAG}:
        wrong = "no table" if is_dataclass(getattr(config, key)) else {"no": "number"}
        with pytest.raises(UsageError, match=rf"'{key}(\.class)?' must be "):
            plain.from_dict(kind.Config, known | {key: wrong})


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_facts_beside_the_code_name_its_presets(name):
    kind = find(name, SYSTEMS, "system")
    file = told.system(name).file.with_suffix(".toml")
    written = [(preset["name"], preset["data"]) for preset in tomllib.loads(file.read_text())["presets"]]
    assert written == [(preset, given.data) for preset, given in kind.presets.items()]


def test_every_task_has_an_example_here():
    tasks = {task for name in SYSTEMS for task in find(name, SYSTEMS, "system").tasks}
    assert tasks <= ASK.keys(), "add the new kind of request to ASK"
