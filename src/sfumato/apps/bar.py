"""How far something has come: a moving bar on a terminal, a plain line each tenth of the way elsewhere."""

from __future__ import annotations

import math
import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sfumato.apps.talk import Talk, stderr

LINES = 10
"""Plain lines from start to end."""
PATIENCE = 2.0
"""Seconds before the first plain line: what is done sooner needs none."""


class Bar:
    """Shows ``update``s until it is closed; with ``--quiet`` or ``--json`` it shows nothing."""

    def __init__(self, what: str, talk: Talk):
        self.what, self.talk = what, talk
        self._started, self._said = time.monotonic(), 0
        self._task: TaskID | None = None
        console = stderr()
        columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.percentage:>3.0f} %"))
        words = TextColumn("{task.fields[words]}")
        self._rich = Progress(*columns, TimeElapsedColumn(), words, console=console, transient=True)
        self._moving = console.is_terminal and not talk.quiet

    def __enter__(self) -> Bar:
        if self._moving:
            self._rich.start()
            self._task = self._rich.add_task(self.what, total=1.0, words="")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._moving:
            self._rich.stop()

    def update(self, done: float, words: str = "") -> None:
        """Show that ``done`` (0 to 1) of the way lies behind us."""
        if self._task is not None:
            self._rich.update(self._task, completed=done, words=words)
        elif (tenth := math.floor(done * LINES + 1e-9)) > self._said:
            self._said = tenth
            seconds = time.monotonic() - self._started
            if seconds < PATIENCE:
                return
            self.talk.note(f"{self.what}: {done:.0%}, {duration(seconds)}{', ' if words else ''}{words}")


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(4.26), duration(75.0), duration(7300.0)
    ('4.3 s', '1 min 15 s', '2 h 01 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
