"""A look at pictures on their way: a file written anew every few seconds, which goes when all is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.errors import UsageError

if TYPE_CHECKING:
    from sfumato.core.request import Progress

NAME = "preview.png"


@contextmanager
def previewing(out: Path, every: float) -> Iterator[Callable[[Progress], None] | None]:
    """While inside, ``preview.png`` in a folder shows how far pictures have come, as they come.

    ``every`` so many seconds, 0 for never. A file of that name that was there before is left alone, and then
    nothing is shown.
    """
    if every < 0:
        raise UsageError(f"--look-every must be at least 0 seconds, got {every:g}")
    path = out / NAME
    if not every or path.exists():
        yield None
        return
    last = time.monotonic()

    def look(event: Progress) -> None:
        nonlocal last
        if event.preview is not None and time.monotonic() - last >= every:
            from sfumato import images

            images.save_png(images.grid(event.preview().float().cpu()), path)
            last = time.monotonic()

    try:
        yield look
    finally:
        path.unlink(missing_ok=True)
