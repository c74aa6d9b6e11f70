"""What one may ask of the verb ``clip``; without torch, so that its help comes at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from sfumato.apps.ask import Choosing


@dataclass(frozen=True, kw_only=True)
class Options(Choosing):
    """Compare pictures with words by a CLIP.

    Examples:

      sfumato clip score a.png b.png --text "a red circle" "a blue square"

      sfumato clip classify ./photos --labels circle square star

      sfumato clip search ./photos "a red circle above a blue square"

    Pictures of a folder that cannot be read are named and left out. Scores are 100 times the cosine, and 0
    below it; they mean something beside other scores of the same model only.
    """

    what: Positional[Literal["score", "classify", "search"]]
    """Score every picture against every text; choose among labels; find the pictures that words mean."""
    given: Annotated[Positional[tuple[str, ...]], tyro.conf.arg(metavar="[PICTURE ...]")]
    """Pictures or folders of pictures; to search, the words come last."""
    text: tuple[str, ...] = ()
    """Texts to score against."""
    labels: tuple[str, ...] = ()
    """What to choose among."""
    templates: tuple[str, ...] = ()
    """Sentences around each label or text, which stands in place of {}; their vectors are averaged. By
    default texts stay alone, and labels stand in the sentences the model was made for."""
    prior: str = ""
    """For a search, a prior trained on the same CLIP: it imagines how a picture of the words would look, and
    pictures near to that are found."""
    top: int = 12
    """Pictures found by a search."""
    index: Path | None = None
    """Where a search keeps what it has seen of the pictures, so that it looks at each only once; by default
    a file in --out."""
    out: Path = Path("out")
    """Where the sheet of a search goes."""
