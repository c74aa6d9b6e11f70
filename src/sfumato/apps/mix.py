"""The verb ``mix``: pictures with the coarse styles of one seed and the fine styles of another."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.apps.ask import Asked, Asking
from sfumato.apps.talk import counted
from sfumato.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Options(Asking):
    """Mix styles: pose and shape from one seed, colour and detail from another, for all pairs.

    Example: sfumato mix --coarse 0 1 2 --fine 10 11 12 13 --truncation 0.7 --model runs/stylegan

    Writes one PNG a pair and sheet.png, with the pictures they were made from in its first row and column.
    """

    coarse: tuple[int, ...] = (0, 1, 2)
    """Seeds of the pictures that give pose and shape: the sheet's rows."""
    fine: tuple[int, ...] = (10, 11, 12, 13)
    """Seeds of the pictures that give colour and detail: the sheet's columns."""
    crossover: int | None = None
    """The layer from which styles are taken from the fine seed; by default the middle one."""
    truncation: float | None = None
    """How far pictures stray from the average: 1 as far as they will, 0 not at all."""


def main(options: Options) -> int:
    """Load, mix, write; paths go to stdout."""
    if not options.coarse or not options.fine:
        raise UsageError("A mix needs at least one seed after --coarse and one after --fine")

    from dataclasses import replace

    from sfumato import images
    from sfumato.apps import sheet
    from sfumato.apps.pictures import free
    from sfumato.apps.sample import within
    from sfumato.core.request import Images, Mix

    asked = Asked.open(options, Mix)
    request = Mix(
        seed=options.seed,
        count=len(options.coarse) * len(options.fine),
        coarse=options.coarse,
        fine=options.fine,
        crossover=options.crossover,
        truncation=options.truncation,
    )

    def source(seed: int) -> Mix:
        """A picture mixed with itself: the picture."""
        return replace(request, count=1, coarse=(seed,), fine=(seed,))

    seeds = list(dict.fromkeys((*options.coarse, *options.fine)))
    requests = [request, *map(source, seeds)]
    with asked.bar("mixing") as report:
        answers = [asked.answer(r, within(report, i, len(requests))) for i, r in enumerate(requests)]
    mixed, *sources = [answer.pixels.float().cpu() for answer in answers if isinstance(answer, Images)]
    alone = {seed: images.to_pil(pixels[0]) for seed, pixels in zip(seeds, sources, strict=True)}

    paths, rows = [], [[None, *(sheet.Cell(alone[seed], f"fine {seed}") for seed in options.fine)]]
    for i, coarse in enumerate(options.coarse):
        rows.append([sheet.Cell(alone[coarse], f"coarse {coarse}")])
        for j, fine in enumerate(options.fine):
            picture = images.to_pil(mixed[i * len(options.fine) + j])
            one = replace(request, count=1, coarse=(coarse,), fine=(fine,))
            settings = asked.settings(one, mixed)
            path = free(options.out / f"{coarse:06d}-{fine:06d}.png", settings)
            images.save_png(picture, path, settings)
            paths.append(path)
            rows[-1].append(sheet.Cell(picture, ""))
    settings = asked.settings(request, mixed) | {"pictures": [path.name for path in paths]}
    path = free(options.out / "sheet.png", settings)
    sheet.write_table(rows, path, "Rows give the coarse styles, columns the fine ones", settings=settings)
    notes = [note for answer in answers for note in answer.notes]
    return asked.tell(counted(len(paths), "picture"), [*paths, path], notes)
