"""The verb ``describe``: a system's idea, paper, equations, presets and measured figures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from sfumato.apps import facts
from sfumato.apps.talk import Common, Talk, table
from sfumato.errors import UsageError, nearest
from sfumato.registry import DATASETS, SYSTEMS


@dataclass(frozen=True)
class Options(Common):
    """Explain a system, a dataset or a model that comes with the package.

    Example: sfumato describe ddpm
    """

    name: Annotated[Positional[str], tyro.conf.arg(metavar="NAME")]
    """What to explain: a name from 'sfumato list'."""


def main(options: Options) -> int:
    """Explain, as text or as one JSON object."""
    name, talk, models = options.name, options.talk, facts.models()
    if name in SYSTEMS:
        _system(facts.system(name), talk)
        if name in models:
            talk.show(f"A model '{name}' comes along; its card: {_short(models[name] / 'README.md')}")
    elif name in models:
        card = (models[name] / "README.md").read_text(encoding="utf-8")
        talk.result({"model": name, **facts.read_config(models[name]), "card": card})
        talk.show(card)
        if name in DATASETS:
            talk.show(f"A dataset is called so, too. {_dataset(name)}")
    elif name in DATASETS:
        talk.result({"dataset": name, "is": facts.dataset_sentence(name)})
        talk.show(_dataset(name))
    else:
        raise UsageError(f"Nothing here is called '{name}'{nearest(name, [*SYSTEMS, *DATASETS, *models])}")
    return 0


def _system(told: facts.SystemFacts, talk: Talk) -> None:
    talk.result({**dataclasses.asdict(told), "file": str(told.file), "family": told.family})
    talk.show(f"{told.name}: {told.title}\n\n{told.sentence}\n")
    talk.show(f"Paper      {told.paper} ({', '.join(filter(None, [told.authors, str(told.year)]))})")
    if told.link:
        talk.show(f"           {told.link}")
    for number, equation in enumerate(told.equations):
        talk.show(f"{'Equations' if number == 0 else '':<10} {equation}")
    talk.show(f"File       {_short(told.file)}\n")
    talk.show(table(["preset", "data", "minutes", "machine"], [_row(preset) for preset in told.presets]))
    figures = [(p.name, *_figure(figure)) for p in told.presets for figure in p.figures]
    if figures:
        talk.show("")
        talk.show(table(["preset", "figure", "value", "n", "control"], figures))
    first = told.presets[0].name
    train = f"sfumato train {told.name} {first} --out runs/{told.name}-{first}"
    talk.show(f"\nUse it:       {told.use}" if told.use else f"\nTrain it:     {train}")
    talk.show(f"Its settings: {told.verb} --help")


def _dataset(name: str) -> str:
    return f"{name}: {facts.dataset_sentence(name)}\n\nSee it: sfumato data {name} --out {name}.png"


def _row(preset: facts.PresetFacts) -> tuple[str, str, str, str]:
    minutes = "not measured" if preset.minutes is None else f"{preset.minutes:g}"
    return preset.name, preset.data, minutes, preset.machine


def _figure(figure: object) -> tuple[str, ...]:
    told = figure if isinstance(figure, dict) else {}
    return tuple(str(told.get(key, "")) for key in ("name", "value", "n", "control"))


def _short(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
