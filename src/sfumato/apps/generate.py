"""The verb ``generate``: pictures from a prompt, from a label or from nothing, as files."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from sfumato.apps.adding import Tiling
from sfumato.apps.ask import Asking
from sfumato.apps.bar import Bar, duration
from sfumato.apps.talk import counted
from sfumato.core.generate import Generate, in_turn
from sfumato.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Options(Tiling, Asking, Generate):
    """Make pictures from a prompt, from a label or from nothing.

    Example: sfumato generate "a red circle above a blue square" --count 4 --seed 7

    Writes one PNG a picture, named by its seed, with its settings inside, and grid.png.
    """

    prompt: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="[PROMPT ...]")] = ()
    """What to show; several prompts are taken in turn, one a picture."""
    model: str = "shapes"
    """A model that comes with the package, a run folder, or a diffusers folder."""
    label: str | None = None
    """Which class to show, by number or by name; several, with commas between, are taken in turn."""
    progressive: bool = False
    """Also write progressive.png: how the pictures came out of the noise, a row each."""
    best_of: int = 1
    """Draw so many for each picture, and keep the one that a model which scores pictures finds closest to the
    prompt."""
    judge: str = ""
    """That model: a CLIP that comes with the package, a run or a folder; by default the first that comes."""
    expand: bool = False
    """Say in the prompt what it leaves open, in words of the world of shapes, before it is drawn; what is
    settled depends on the seed."""
    no: str = ""
    """What must not be seen; it joins what to avoid."""
    stylize: Annotated[int | None, tyro.conf.arg(metavar="0-1000")] = None
    """How freely to take the prompt: 0 to the letter, 100 as the model does by itself, 1000 most freely. It
    divides the strength of guidance, and asks SDXL's refiner for more beauty."""
    again: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Make a picture again from the settings inside its PNG; other options are then ignored."""


def main(options: Options) -> int:
    """Load, generate, write; paths go to stdout."""
    talk = options.talk
    request, options = wanted(options)

    from sfumato.apps import load
    from sfumato.apps.rerank import drawn
    from sfumato.apps.sample import Source

    folder = load.folder_of(options.model)
    system = options.load(folder)
    added = options.take(system, options.load)
    if options.stylize is not None:
        request = styled(request, options.stylize, system)
    start = time.monotonic()
    with Bar("generating", talk) as bar:
        pictures = drawn(
            system,
            request,
            Source.of(folder, options.model, added),
            best_of=options.best_of,
            judge=options.judge,
            keep_history=options.progressive,
            report=bar.update,
        )
    seconds = time.monotonic() - start
    paths = pictures.save(options.out)
    if options.progressive:
        paths += progressive(pictures, options.out)
    for note in pictures.notes:
        talk.warn(note)
    seeds = f"seed {pictures.seeds[0]}" + (f" to {pictures.seeds[-1]}" if len(pictures) > 1 else "")
    talk.note(f"{counted(len(pictures), 'picture')} in {duration(seconds)} ({seeds})")
    talk.result(
        {
            "files": [str(path) for path in paths],
            "seeds": list(pictures.seeds),
            "captions": list(pictures.captions),
            "notes": list(pictures.notes),
            "seconds": round(seconds, 3),
        }
    )
    for path in paths:
        talk.line(str(path))
    return 0


def wanted(options: Options) -> tuple[Generate, Options]:
    """The request, and the options with the model and what was added to it: those given, or those of the
    picture to be made again."""
    if options.again is None:
        prompt = options.prompt[0] if len(options.prompt) == 1 else options.prompt or ""
        plain = {field.name: getattr(options, field.name) for field in dataclasses.fields(Generate)}
        negative = ", ".join(filter(None, (options.negative, options.no)))
        plain |= {"prompt": prompt, "label": _label(options.label), "negative": negative}
        request = Generate(**plain)
        return longer(request) if options.expand else request, options

    from sfumato.images import read_settings

    told = read_settings(options.again)
    names = {field.name for field in dataclasses.fields(Generate)} & told.keys()
    if task := told.get("task"):
        raise UsageError(f"'{options.again}' was made by 'sfumato {task}'; ask that again in the same way")
    if not {"seed", "model"} <= told.keys():
        raise UsageError(f"'{options.again}' is a grid, not one picture; give one of: {told.get('pictures')}")
    settings: dict[str, Any] = {name: _frozen(told[name]) for name in names}
    kept: dict[str, Any] = {"model": "", "precision": "auto"} | {
        field.name: field.default for field in dataclasses.fields(Tiling)
    }
    kept |= {name: _frozen(told[name]) for name in kept.keys() & told.keys()}
    again = dataclasses.replace(options, **kept, stylize=None, best_of=1)
    return Generate(**settings | {"count": 1}), again


def styled(request: Generate, stylize: int, system: Any) -> Generate:
    """A request that takes its prompt more or less freely.

    Guidance g of the model becomes 1 + (g - 1) 2^((100 - S) / 300): S = 0 gives 1.26 times the excess over 1,
    100 the model's own, 400 half of it, 1000 an eighth. Models that are told an aesthetic score hear
    6 + (S - 100) / 300: from 5.67 to 9.
    """
    own = {field.name for field in dataclasses.fields(system.config)}
    if "guidance" not in own:
        raise UsageError(f"{type(system).__name__} is not guided, so it has no style; leave --stylize out")
    if request.guidance is not None:
        raise UsageError("--stylize chooses the strength of guidance, and so does --guidance; give one")
    if not 0 <= stylize <= 1000:
        raise UsageError(f"--stylize must be from 0 to 1000, got {stylize}")
    guidance = 1 + (system.config.guidance - 1) * 2 ** ((100 - stylize) / 300)
    beauty = 6 + (stylize - 100) / 300 if "aesthetic" in system.hears else request.aesthetic
    return dataclasses.replace(request, guidance=guidance, aesthetic=beauty)


def longer(request: Generate) -> Generate:
    """The same request with every picture's prompt expanded by that picture's seed (Betker et al. 2023,
    section 3.5): a model that has learned from long captions follows them better.

    >>> longer(Generate(prompt="a large red circle at the top on a navy background", count=1)).prompt
    ('a large red circle at the top on a navy background',)
    """
    from sfumato.data.shapes.expansion import expanded

    texts = (request.prompt,) if isinstance(request.prompt, str) else request.prompt
    seeds = range(request.seed, request.seed + request.count)
    prompts = in_turn(texts, range(request.count))
    return dataclasses.replace(request, prompt=tuple(map(expanded, prompts, seeds)))


def _label(given: str | None) -> str | tuple[str, ...] | None:
    """One label, or several with commas between.

    >>> _label("7"), _label("boot,coat"), _label(None)
    ('7', ('boot', 'coat'), None)
    """
    labels = tuple(part.strip() for part in given.split(",")) if given else ()
    return labels if len(labels) > 1 else given


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def progressive(pictures: Any, folder: Path) -> list[Path]:
    """Write what the pictures were believed to be, a row each, from noise to the result."""
    import torch

    from sfumato import images
    from sfumato.apps.pictures import free, shared

    if not pictures.history:
        return []
    moments = torch.stack(pictures.history, dim=1)
    settings = {"progressive": moments.shape[1]} | shared(pictures.settings)
    path = free(folder / "progressive.png", settings)
    images.save_png(images.grid(moments.flatten(0, 1), columns=moments.shape[1]), path, settings)
    return [path]
