"""The verb ``branch``: pictures that share their way out of the noise up to a moment, and then part."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.apps.ask import Asked, Asking
from sfumato.apps.talk import counted
from sfumato.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Options(Asking):
    """Let pictures share their way out of the noise up to a moment, and then part.

    Example: sfumato branch --at 1 0.75 0.5 0.25 --count 6 --model runs/ddpm

    Writes sheet.png, a row for each moment: what was decided by then is the same in all pictures of a row.
    """

    at: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
    """Times at which pictures part; 1 is noise, where they share nothing but that, and 0 is the picture."""
    count: int = 6
    """Pictures a row."""
    label: str | None = None
    """Which class to show, by number or by name, for a system told labels."""
    steps: int | None = None
    """How many steps the whole way takes; by default the model's own."""


def main(options: Options) -> int:
    """Load, branch, write; paths go to stdout."""
    if not options.at:
        raise UsageError("--at names no time; give at least one, such as 0.75")

    from sfumato import images
    from sfumato.apps import sheet
    from sfumato.apps.pictures import free
    from sfumato.apps.sample import within
    from sfumato.core.request import Branch, Images

    asked = Asked.open(options, Branch)
    requests = [
        Branch(seed=options.seed, count=options.count, at=at, label=options.label, steps=options.steps)
        for at in options.at
    ]
    with asked.bar("branching") as report:
        results = [asked.answer(r, within(report, i, len(requests))) for i, r in enumerate(requests)]
    answers = [result for result in results if isinstance(result, Images)]
    rows = [
        [sheet.Cell(images.to_pil(pixels), f"parted at {at:g}") for pixels in answer.pixels.float().cpu()]
        for at, answer in zip(options.at, answers, strict=True)
    ]
    settings = asked.settings(requests[0], answers[0].pixels) | {"at": list(options.at)}
    path = free(options.out / "sheet.png", settings)
    sheet.write_table(rows, path, "Each row shares its way up to the time it names", settings=settings)
    notes = [note for answer in answers for note in answer.notes]
    return asked.tell(counted(len(rows), "row"), [path], notes)
