"""The model card of a run: what it is, what made it, what it cannot do; in the form Hugging Face reads."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato import __version__
from sfumato.apps import facts
from sfumato.apps.bar import duration
from sfumato.apps.cite import OURS
from sfumato.apps.settings import TRAINING, leaves
from sfumato.core import durable

if TYPE_CHECKING:
    from sfumato.apps.plan import Plan
    from sfumato.apps.watch import Watch
    from sfumato.core.system import System
    from sfumato.core.trainer import Trainer

START, END = "<!-- figures -->", "<!-- end of figures -->"
"""Between these lines of a card stand what ``sfumato evaluate`` has measured."""
CARD = """\
---
library_name: sfumato
license: apache-2.0
tags: [{tags}]
datasets: [{data}]
---
# {name}

{sentence} Trained by sfumato {version} on {data}.
{picture}
## Use

```
sfumato {use} {folder}
```

## Training

| what | value |
|---|---|
{rows}

The command, which gives these weights again on a machine like this one:

```
{command}
```

## Figures

{START}
None measured yet. `sfumato evaluate {folder}` measures them.
{END}

## Limits

It knows the pictures it was trained on and no others: {examples:,} examples of {shape} numbers each.
Nobody has checked those pictures for people, bias or other people's rights; that is up to their owner.

## Citation

```bibtex
{bibtex}
```
"""


def write(plan: Plan, trainer: Trainer, watch: Watch) -> None:
    """Write README.md into the run folder."""
    told, system = plan.data.facts, facts.system(plan.recipe.system)
    data = told.name
    rows = [
        ("system", f"{plan.recipe.system}, preset {plan.recipe.preset}"),
        ("parameters", f"{sum(p.numel() for p in trainer.system.parameters()):,}"),
        ("steps", f"{trainer.step:,} of {plan.train.batch} pictures"),
        ("time", f"{duration(watch.seconds)} with previews and saving, on {machine(trainer)}"),
        ("precision", trainer.precision),
        ("seed", plan.train.seed),
        ("updates skipped", trainer.skipped),
    ]
    card = CARD.format(
        tags=", ".join([system.family, "from-scratch"]),
        data=data,
        name=plan.out.name,
        sentence=system.sentence,
        version=__version__,
        picture=f"\n![Pictures at the end of training]({_relative(plan, watch)})\n"
        if watch.last_grid
        else "",
        use=use(trainer.system),
        folder=shlex.quote(str(plan.out)),
        rows="\n".join(f"| {name} | {value} |" for name, value in rows),
        command=command(plan),
        examples=len(plan.data),
        shape=f"{told.channels} x {told.height} x {told.width}",
        START=START,
        END=END,
        bibtex=f"{system.bibtex}\n\n{OURS}",
    )
    durable.write_text(plan.out / "README.md", card)


def use(system: System[Any]) -> str:
    """The verb that asks it for what it is there for, up to the run; one that answers nothing is built
    upon."""
    from sfumato.apps.sample import verb_of
    from sfumato.core.generate import Generate

    if Generate in system.tasks:
        return 'generate "..." --model' if "caption" in system.hears else "generate --model"
    if not system.tasks:
        return "train SYSTEM --base"
    task = system.tasks[0]
    return f"{USES.get(task.__name__) or f'{verb_of(task)} ./pictures'} --model"


USES = {
    "Edit": 'edit "..." ./pictures --mask mask.png',
    "Imagine": 'clip search ./pictures "..." --prior PRIOR',
    "Layout": "layout --boxes boxes.json",
    "Score": 'clip search ./pictures "..."',
}
"""Commands of tasks that take more, or give something else, than pictures."""


def _relative(plan: Plan, watch: Watch) -> str:
    return "" if watch.last_grid is None else watch.last_grid.relative_to(plan.out).as_posix()


def machine(trainer: Trainer) -> str:
    """What trained it, in words."""
    import torch

    where = (
        torch.cuda.get_device_name(trainer.device) if trainer.device.type == "cuda" else platform.machine()
    )
    processes = f", {trainer.ranks.size} processes" if trainer.ranks.size > 1 else ""
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''} of {where}{processes}"


def command(plan: Plan) -> str:
    """The command line that trains this again."""
    train, recipe = plan.train, plan.recipe
    words = [
        "sfumato",
        "train",
        recipe.system,
        recipe.preset,
        "--data",
        recipe.data,
        "--size",
        str(recipe.size),
    ]
    words += [
        "--steps",
        str(train.steps),
        "--batch",
        str(train.batch),
        "--seed",
        str(train.seed),
        *own_settings(plan),
    ]
    words += ["--precision", train.precision] if train.precision != "auto" else []
    return shlex.join([*words, "--out", str(plan.out)])


def own_settings(plan: Plan) -> list[str]:
    """Settings that differ from the preset's, as options; what was fitted to the data is left out."""
    preset = plan.kind.presets[plan.recipe.preset]
    usual = leaves(plan.kind.fit(preset.config, plan.data.facts))
    words: list[str] = []
    for name, value in leaves(plan.config).items():
        if usual.get(name) != value:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--system.{name}" if name in TRAINING else f"--{name}", *map(str, values)]
    return words


def add_figures(file: Path, lines: Sequence[Sequence[str]]) -> None:
    """Put a table (its head first) among the figures of a card; cards without the place for it stay."""
    text = file.read_text(encoding="utf-8")
    head, found, rest = text.partition(START)
    _, ended, tail = rest.partition(END)
    if not (found and ended):
        return
    rows = [f"| {' | '.join(line)} |" for line in lines]
    rows.insert(1, "|" + "---|" * len(lines[0]))
    durable.write_text(file, f"{head}{START}\n" + "\n".join(rows) + f"\n{END}{tail}")
