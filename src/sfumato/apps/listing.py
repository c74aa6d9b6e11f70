"""The verb ``list``: what there is, as one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from sfumato.apps import facts
from sfumato.apps.talk import Common, table
from sfumato.errors import DataError
from sfumato.registry import DATASETS


@dataclass(frozen=True)
class Options(Common):
    """Show the systems, the data, the models and the runs there are.

    Example: sfumato list systems --search latent
    """

    what: Positional[Literal["all", "systems", "data", "models", "runs"]] = "all"
    """What to list."""
    search: str = ""
    """Only lines with this word."""
    folder: Path = Path("runs")
    """Where to look for runs."""


def main(options: Options) -> int:
    """List, as tables or as one JSON object."""
    sections = {"systems": systems, "data": data, "models": models, "runs": lambda: runs(options.folder)}
    chosen = sections if options.what == "all" else {options.what: sections[options.what]}
    found = {name: _matching(rows(), options.search) for name, rows in chosen.items()}
    options.talk.result(found if options.what == "all" else found[options.what])
    for name, rows in found.items():
        if rows:
            cells = (list(row.values()) for row in (in_groups(rows) if name == "systems" else rows))
            options.talk.show(table(list(rows[0]), cells, title=name.capitalize()))
            options.talk.show("")
    if not any(found.values()):
        options.talk.note(f"nothing found{f' for {options.search!r}' if options.search else ''}")
    return 0


def systems() -> list[dict[str, Any]]:
    """One row a system, family by family."""
    return [_system(told) for members in facts.by_family().values() for told in members]


def _system(told: facts.SystemFacts) -> dict[str, Any]:
    presets = ", ".join(f"{p.name} ({p.minutes:g} min)" if p.minutes else p.name for p in told.presets)
    row = {"family": told.family, "name": told.name, "year": told.year, "presets": presets}
    return {**row, "is": told.sentence}


def in_groups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that name their family only where a new one begins.

    >>> in_groups([{"family": "a", "name": 1}, {"family": "a", "name": 2}])[1]
    {'family': '', 'name': 2}
    """
    before = [None, *(row["family"] for row in rows)]
    return [
        row | {"family": ""} if row["family"] == last else row
        for row, last in zip(rows, before, strict=False)
    ]


def data() -> list[dict[str, Any]]:
    """One row a dataset."""
    return [{"name": name, "is": facts.dataset_sentence(name)} for name in DATASETS]


def models() -> list[dict[str, Any]]:
    """One row a model that comes with the package."""
    rows = []
    for name, folder in facts.models().items():
        megabytes = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
        rows.append({"name": name, "system": facts.read_config(folder)["system"], "MB": f"{megabytes:.1f}"})
    return rows


def runs(folder: Path) -> list[dict[str, Any]]:
    """One row a run, newest first."""
    found = sorted(folder.glob("*/config.json"), key=lambda path: -path.stat().st_mtime)
    return [{"run": str(path.parent), "system": _system_of(path)} for path in found]


def _system_of(path: Path) -> str:
    try:
        return str(facts.read_config(path.parent)["system"])
    except DataError:  # One damaged run hides no other.
        return "?"


def _matching(rows: list[dict[str, Any]], word: str) -> list[dict[str, Any]]:
    return [row for row in rows if word.lower() in " ".join(map(str, row.values())).lower()]
