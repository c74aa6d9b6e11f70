"""The verb ``data``: what a dataset holds, or what a folder of pictures is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from sfumato.apps.talk import Common, Talk, table
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from sfumato.data.dataset import Dataset
    from sfumato.data.report import Report

PICTURES = ("source", "image", "a", "b")
"""The fields that hold pictures, in the order in which they are shown."""
WORDS = ("caption", "text")
"""The fields that say in words what a picture shows, or what is written in it."""
NAMED = 10
"""Files at fault that are named one by one, unless --json asks for all."""

PAGES = (".html", ".htm")
"""Names that end so are pages, others pictures."""


@dataclass(frozen=True)
class Options(Common):
    """Show what a dataset holds, or report on a folder of pictures.

    Example: sfumato data ./my_photos --out sheet.png
    """

    data: Annotated[Positional[str], tyro.conf.arg(metavar="DATA")]
    """A dataset from 'sfumato list data', or a folder of JPEG, PNG or WebP files, or of shards."""
    out: Path | None = None
    """Where to write a sheet of examples; .png, or .html for a page."""
    count: int = 24
    """Examples on the sheet, or written as files."""
    files: Path | None = None
    """A new folder for examples as PNG files, with their captions, to be given to other commands."""
    split: str = "train"
    """Which part of the data."""
    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Height and width to show the examples at; by default the data's own."""
    allow_network: bool = False
    """Let missing public data be downloaded."""


def main(options: Options) -> int:
    """Report, then draw the sheet if asked for."""
    if options.count < 1:
        raise UsageError(f"--count must be at least 1, got {options.count}")
    if options.out is not None and options.out.suffix.lower() not in (".png", *PAGES):
        raise UsageError(f"--out must end in .png, or for a page in .html, got '{options.out}'")
    talk, told = options.talk, {}
    from sfumato.data import is_registered, open_data

    is_folder = not is_registered(options.data) or options.data == "folder"
    place = Path(options.data).expanduser()
    if is_folder and place.is_dir():
        from sfumato.data.report import report
        from sfumato.data.shards import is_shards

        is_folder = not is_shards(place)
        if is_folder:
            found = report(place)
            told = asdict(found)
            _report(found, talk)
    opened = open_data(
        options.data, split=options.split, size=options.size, allow_network=options.allow_network
    )
    facts = opened.facts
    told |= {**asdict(facts), "fields": sorted(facts.fields), "examples": len(opened)}
    if not is_folder:
        _facts(opened, talk)
    if options.out is not None:
        _sheet(opened, options.data, options.count, options.out)
        told["sheet"] = str(options.out)
    if options.files is not None:
        told["files"] = [str(path) for path in _files(opened, options.count, options.files)]
    talk.result(told)
    for path in (options.out, options.files):
        if path is not None:
            talk.line(str(path))
    return 0


def _facts(data: Dataset, talk: Talk) -> None:
    facts = data.facts
    rows = [
        ("name", facts.name),
        ("examples", f"{len(data):,}"),
        ("pictures", f"{facts.channels} x {facts.height} x {facts.width} (channels, height, width)"),
        ("fields", ", ".join(sorted(facts.fields))),
        ("classes", f"{len(facts.classes)}: {', '.join(facts.classes)}" if facts.classes else "none"),
        ("words", f"{len(facts.words)} in captions" if facts.words else "no captions"),
    ]
    talk.show(table(["", ""], rows))


def _report(found: Report, talk: Talk) -> None:
    rows: list[tuple[str, Any]] = [
        ("folder", found.path),
        ("pictures", f"{found.pictures:,} readable, {found.bytes / 1e6:,.1f} MB"),
        ("formats", _counts(found.formats)),
        ("sizes", " ... ".join(f"{h} x {w}" for h, w in (found.smallest, found.median, found.largest))),
        ("splits", _counts(found.splits)),
        ("captions", f"{found.captioned:,} with, {len(found.uncaptioned):,} without"),
        ("classes", _counts(found.classes) or "none"),
        ("other files", _counts(found.others) or "none"),
    ]
    talk.show(table(["", ""], rows))
    _named("unreadable", [f"{bad.file}: {bad.reason}" for bad in found.unreadable], talk)
    if found.captioned:
        _named("without caption", list(found.uncaptioned), talk)
    _named("in metadata.jsonl, but not there", list(found.strays), talk)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _named(what: str, lines: list[str], talk: Talk) -> None:
    if not lines:
        return
    more = f" (--json names all {len(lines)})" if len(lines) > NAMED else ""
    talk.show(f"\n{len(lines)} {what}{more}:")
    for line in lines[:NAMED]:
        talk.show(f"  {line}")


def _some(data: Dataset, count: int) -> tuple[list[int], Mapping[str, Any], list[str]]:
    """Numbers of examples from all over the data, the examples, and their fields that hold pictures."""
    import torch

    rows = torch.linspace(0, len(data) - 1, min(count, len(data))).long()
    batch = data.batch(rows)
    return rows.tolist(), batch, [field for field in PICTURES if field in batch]


def _files(data: Dataset, count: int, folder: Path) -> list[Path]:
    """Write examples as files; where they hold several pictures each, a subfolder for each kind."""
    from sfumato.images import save_png, to_pil

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"'{folder}' is not empty; give --files a new folder")
    rows, batch, shown = _some(data, count)
    paths = []
    for field in shown:
        for i, row in enumerate(rows):
            path = folder / (field if len(shown) > 1 else "") / f"{row:06d}.png"
            save_png(to_pil(batch[field][i]), path)
            paths.append(path)
            if said := [batch[field][i] for field in WORDS if field in batch]:
                path.with_suffix(".txt").write_text(said[0] + "\n", encoding="utf-8")
    return paths


def _sheet(data: Dataset, name: str, count: int, out: Path) -> None:
    from sfumato.apps import sheet
    from sfumato.images import to_pil

    rows, batch, shown = _some(data, count)
    said = _words(batch, data.facts.classes, len(rows))
    cells = [
        sheet.Cell(to_pil(batch[field][i]), said[i], f"number {row}{f', {field}' if len(shown) > 1 else ''}")
        for i, row in enumerate(rows)
        for field in shown
    ]
    title = f"{Path(name).name}: {len(data):,} examples"
    if out.suffix.lower() in PAGES:
        facts = data.facts
        lead = f"{facts.channels} x {facts.height} x {facts.width}; fields: {', '.join(sorted(facts.fields))}"
        sheet.write_html(cells, out, title, lead)
    else:
        sheet.write_png(cells, out, title, columns=6)


def _words(batch: Mapping[str, Any], classes: tuple[str, ...], count: int) -> list[str]:
    """What is known of each picture: its caption or text, else its class, else nothing."""
    for field in WORDS:
        if field in batch:
            return list(batch[field])
    if "label" in batch and classes:
        return [classes[int(i)] for i in batch["label"]]
    return [""] * count
