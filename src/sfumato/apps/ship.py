"""How a finished run becomes a model that comes with the package: half precision, its card, nothing else.

Example: python -m sfumato.apps.ship runs/ldm-shapes shapes
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

from sfumato.apps import facts
from sfumato.apps.talk import write
from sfumato.core import durable
from sfumato.core.checkpoint import RunFolder
from sfumato.errors import DataError

LIMIT = 12_000_000
"""Bytes that the weights of one model may take."""


def ship(run: Path, into: Path) -> Path:
    """Write the weights, configuration and card of a run into a new folder; it depends on no other."""
    source = RunFolder.open(run)
    card = (run / "README.md").read_text(encoding="utf-8")
    tensors = {n: t.half() if t.is_floating_point() else t for n, t in source.read_model().items()}
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    if size > LIMIT:
        raise DataError(f"'{run}' takes {size:,} bytes in half precision; at most {LIMIT:,} may come along")
    target = RunFolder.create(into, replace(source.recipe, base=None))
    try:
        target.write_model(tensors)
    finally:
        target.unlock()
    (into / "run.lock").unlink(missing_ok=True)
    card = card.replace(f"--model {run}", f"--model {into.name}").replace(
        f"# {run.name}\n", f"# {into.name}\n"
    )
    card = re.sub(r"!\[[^\]]*\]\(samples/[^)]*\)\n\n", "", card)
    durable.write_text(into / "README.md", card)
    return into


if __name__ == "__main__":
    write(str(ship(Path(sys.argv[1]), facts.WEIGHTS / sys.argv[2])))
