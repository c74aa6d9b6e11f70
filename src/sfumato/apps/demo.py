"""The verb ``demo``: a contact sheet from fixed prompts, made by the model that comes with the package."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from sfumato.apps.bar import Bar, duration
from sfumato.apps.talk import Common

PROMPTS = (
    "a red circle",
    "a blue square",
    "a large green triangle at the top left",
    "a small yellow star at the bottom right",
    "a red circle above a blue square",
    "a green triangle left of a yellow circle",
    "a purple cross below an orange square",
    "a large dotted cyan ring at the centre on a white background",
)


@dataclass(frozen=True)
class Options(Common):
    """Make a contact sheet with the model that comes with the package.

    Example: sfumato demo --out demo
    """

    out: Path = Path("demo")
    """Where sheet.png and sheet.html go."""
    model: str = "shapes"
    """A model that comes with the package, or a run folder."""
    seed: int = 0
    """The first picture's seed; the next picture has the next."""
    steps: int | None = None
    """How many steps the solver takes; by default the model's own."""


def main(options: Options) -> int:
    """Generate, draw, and print the page's path last."""
    start = time.monotonic()
    from sfumato.apps import load, sheet
    from sfumato.apps.pictures import check_folder
    from sfumato.apps.sample import Source, sample
    from sfumato.core.request import Generate

    talk = options.talk
    check_folder(options.out)
    talk.note(f"loading '{options.model}'")
    folder = load.folder_of(options.model)
    system = load.load(folder)
    request = Generate(count=len(PROMPTS), seed=options.seed, steps=options.steps)
    if "caption" in system.hears:
        request = dataclasses.replace(request, prompt=PROMPTS)
    before = time.monotonic()
    with Bar("generating", talk) as bar:
        pictures = sample(system, request, Source.of(folder, options.model), report=bar.update)
    seconds = time.monotonic() - before
    pictures.save(options.out)
    told = zip(pictures, pictures.captions, pictures.seeds, strict=True)
    cells = [sheet.Cell(image, caption, f"seed {seed}") for image, caption, seed in told]
    title = f"{len(cells)} pictures from words"
    sheet.write_png(cells, options.out / "sheet.png", title)
    lead = f"Made in {duration(seconds)} by the model '{options.model}' from nothing but words and seeds."
    foot = f"Make one again: sfumato generate --from {options.out}/NAME.png"
    sheet.write_html(cells, options.out / "sheet.html", title, lead, foot)
    talk.note(
        f"{len(cells)} pictures in {duration(seconds)}, {duration(time.monotonic() - start)} with loading"
    )
    sheets = [str((options.out / name).resolve()) for name in ("sheet.png", "sheet.html")]
    talk.result({"files": sheets, "seconds": round(seconds, 3)})
    for path in sheets:
        talk.line(path)
    return 0
