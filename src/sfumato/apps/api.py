"""The command line's verbs as functions: what notebooks and scripts call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sfumato import device as devices
from sfumato.apps import plan as plans
from sfumato.apps.ask import Asked, Choosing
from sfumato.apps.bar import Bar
from sfumato.apps.film import Film, stills
from sfumato.apps.load import folder_of, load
from sfumato.apps.pictures import Pictures
from sfumato.apps.rerank import drawn
from sfumato.apps.sample import Source, pictures_of
from sfumato.apps.talk import Talk
from sfumato.apps.train import Training
from sfumato.core.generate import Generate
from sfumato.core.request import Embeddings, Images, Ranking, Request, Text, Walk
from sfumato.core.system import System
from sfumato.device import Precision
from sfumato.errors import SfumatoError, UsageError, nearest


def generate(
    wanted: str | tuple[str, ...] | Generate = "",
    *,
    model: str | os.PathLike[str] = "shapes",
    count: int = 4,
    seed: int = 0,
    best_of: int = 1,
    judge: str | os.PathLike[str] = "",
    precision: Precision = "auto",
    device: str = "auto",
    quiet: bool = False,
    **settings: Any,
) -> Pictures:
    """Make pictures from a prompt, or from a whole ``Generate`` request (whose count and seed then count).

    ``settings`` are the fields of ``Generate``: ``generate("a red circle", steps=10, guidance=3.0)``.
    Of ``best_of`` drawn for each, that is kept which ``judge``, a model that scores pictures, finds closest
    to the prompt. The model is loaded anew at every call; to ask often, ``load`` it once and iterate over
    ``system.run(request)``.
    """
    for name in settings:
        if isinstance(wanted, Generate):
            raise UsageError(f"'{name}' is said beside a whole request; say it in Generate({name}=...)")
        if name not in (known := [field.name for field in fields(Generate)]):
            raise UsageError(f"Generate has no '{name}'{nearest(name, known)}")
    request = (
        wanted
        if isinstance(wanted, Generate)
        else Generate(prompt=wanted, count=count, seed=seed, **settings)
    )
    system = load(model, precision=precision, device=device)
    with Bar("generating", Talk(quiet=quiet)) as bar:
        source = Source.of(folder_of(model), os.fspath(model))
        return drawn(system, request, source, best_of=best_of, judge=judge, report=bar.update)


def ask(
    request: Request,
    model: str | os.PathLike[str] = "",
    *,
    precision: Precision = "auto",
    device: str = "auto",
    quiet: bool = False,
) -> Pictures | Film | Text | Ranking | Embeddings:
    """Ask a model for anything it can do: ``ask(Walk(count=4), "runs/dcgan")`` gives a film.

    What is no picture comes as it is: ``Text``, ``Ranking``, ``Embeddings``.

    Without ``model``, the first that comes with the package and can do it. Raises ``UsageError`` if the model
    does not serve this kind of request.
    """
    options = Choosing(model=os.fspath(model), precision=precision, device=device, quiet=quiet)
    asked = Asked.open(options, type(request))
    with asked.bar("working") as report:
        result = asked.answer(request, report)
    if isinstance(result, Text | Ranking | Embeddings):
        return result
    if isinstance(result, Images):
        return pictures_of(asked.system, request, asked.source, result)
    frames = len(result.pixels[0])
    rows = stills(2, frames - 1, loop=False) if frames > 1 else ((0,),)
    if isinstance(request, Walk):
        keys = request.count if request.images is None else len(request.images)
        rows = stills(keys, request.frames, loop=request.loop)
    return Film(
        pixels=result.pixels[0].float().cpu(),
        rate=result.rate,
        settings=asked.settings(request, result.pixels),
        rows=rows,
        notes=result.notes,
    )


def train(
    system: str = "",
    preset: str = "",
    *,
    data: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str],
    steps: int | None = None,
    batch: int | None = None,
    size: int | None = None,
    seed: int | None = None,
    resume: bool = False,
    base: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    quiet: bool = False,
) -> System[Any]:
    """Train as ``sfumato train`` does and return the system, loaded from its run folder.

    What is None is the preset's: ``steps``, ``batch``, ``size`` (of the pictures, in pixels) and ``base``, a
    finished run, or a model that comes along, to build on.
    ``settings`` are the system's own, by the names of the command line: ``{"network.channels": 64}``.
    ``resume`` goes on with the run in ``out``, which keeps its settings; ``steps`` then says how far.
    """
    devices.setup()
    if resume:
        new_only: dict[str, Any] = {"system": system or None, "preset": preset or None, "data": data}
        new_only |= {"batch": batch, "size": size, "seed": seed, "base": base, "settings": settings}
        if wrong := [name for name, value in new_only.items() if value is not None]:
            raise UsageError(f"A resumed run keeps its own settings; leave out {wrong[0]}")
        plan = plans.resumed(Path(out), steps=steps)
    elif (Path(out) / "config.json").exists():
        raise UsageError(f"'{out}' already holds a run; go on with resume=True, or choose another out")
    else:
        words: list[str] = []
        for name, value in (settings or {}).items():
            words += _typed(name, value)
        given = {"steps": steps, "batch": batch, "seed": seed}
        train = {name: value for name, value in given.items() if value is not None}
        where = None if data is None else os.fspath(data)
        below = None if base is None else Path(base)
        plan = plans.new(
            system, preset, Path(out), data=where, size=size, train=train, settings=words, base=below
        )
    if Training(device, False, Talk(quiet=quiet), first=True).carry_out(plan):
        raise SfumatoError(f"Training was stopped; go on with resume=True and out='{out}'")
    return load(out, device=device)


def _typed(name: str, value: Any) -> list[str]:
    """A setting as it is typed.

    >>> _typed("bag", True), _typed("network.clip", False), _typed("network.widths", (8, 16))
    (['--bag'], ['--network.no-clip'], ['--network.widths', '8', '16'])
    """
    if isinstance(value, bool):
        head, dot, last = name.rpartition(".")
        return [f"--{name}" if value else f"--{head}{dot}no-{last}"]
    return [f"--{name}", *map(str, value if isinstance(value, tuple | list) else (value,))]
