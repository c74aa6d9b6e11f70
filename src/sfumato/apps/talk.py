"""How the command line speaks: results on stdout, everything else on stderr, colour for terminals alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command understands."""

    json: bool = False
    """Report as JSON on stdout, for other programs."""
    quiet: Annotated[bool, tyro.conf.arg(aliases=["-q"])] = False
    """Say nothing but results and errors."""
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """Show where in the code an error arose."""

    @property
    def talk(self) -> Talk:
        return Talk(as_json=self.json, quiet=self.quiet or self.json)


@dataclass(frozen=True)
class Talk:
    """Where a command's words go."""

    as_json: bool = False
    quiet: bool = False

    def note(self, text: str, style: str | None = None) -> None:
        """Tell the person something on stderr."""
        if not self.quiet:
            stderr().print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Tell the person something they must not miss, even with ``--quiet``."""
        stderr().print(f"note: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def result(self, values: Mapping[str, Any] | Sequence[Any]) -> None:
        """Give other programs their JSON object."""
        if self.as_json:
            write(json.dumps(values, ensure_ascii=False, indent=2, default=str))

    def show(self, *parts: Any) -> None:
        """Give a person a table or a text on stdout."""
        if not self.as_json:
            stdout().print(*parts, markup=False, highlight=False)

    def line(self, text: str) -> None:
        """Give one line of result: never wrapped, so that it can be piped."""
        if not self.as_json:
            write(text)


def counted(number: int, what: str) -> str:
    """A number of things in words.

    >>> counted(1, "picture"), counted(20, "picture")
    ('1 picture', '20 pictures')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def write(text: str) -> None:
    """One line on stdout, as it is."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def stderr() -> Console:
    return Console(stderr=True)


def stdout() -> Console:
    """A console for results; piped output is never cut at 80 columns."""
    return Console(width=None if sys.stdout.isatty() else 160)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> Table:
    """A plain table; cells are text, never markup."""
    out = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        out.add_column(column, overflow="fold")
    for row in rows:
        out.add_row(*(escape(str(cell)) for cell in row))
    return out
