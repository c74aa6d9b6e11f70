"""The verb ``clip``: how well pictures and words go together, which label fits, which picture is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.apps.ask import Asked
from sfumato.apps.clip_options import Options
from sfumato.apps.talk import counted, table
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from sfumato.apps.given import Given

SHOWN = 5
"""Labels of a picture that are shown; ``--json`` has all."""


def main(options: Options) -> int:
    """Do what was asked for."""
    wrong = {"score": options.labels, "classify": options.text, "search": options.text + options.labels}
    if options.prior and options.what != "search":
        raise UsageError(f"clip {options.what} takes no --prior; only a search imagines pictures")
    if wrong[options.what]:
        raise UsageError(
            f"clip {options.what} takes {_WORDS[options.what]}; see 'sfumato clip --help' for examples"
        )
    if options.what == "search":
        from sfumato.apps import clip_search

        return clip_search.search(options)
    return _score(options) if options.what == "score" else _classify(options)


_WORDS = {
    "score": "words by --text",
    "classify": "words by --labels",
    "search": "words after the folder",
}


def _score(options: Options) -> int:
    from sfumato.apps.clip_search import hundredfold

    if not options.text:
        raise UsageError("What should the pictures be compared with? Say it with --text")
    asked, rows, notes = _compared(options, options.text, options.templates or ("{}",))
    scores = [
        {"file": str(one.path), "scores": {t: hundredfold(c) for t, c, _ in found}} for one, found in rows
    ]
    asked.talk.result({"model": asked.source.model, "pictures": scores, "notes": notes})
    lines = [(row["file"], *(f"{row['scores'][text]:.1f}" for text in options.text)) for row in scores]  # type: ignore[index]
    asked.talk.show(table(("picture", *options.text), lines))
    return 0


def _classify(options: Options) -> int:
    if len(options.labels) < 2:
        raise UsageError("Which labels? Give two or more with --labels")
    asked, rows, notes = _compared(options, options.labels, options.templates)
    told = [
        {"file": str(one.path), "label": found[0][0], "shares": {t: share for t, _, share in found}}
        for one, found in rows
    ]
    asked.talk.result({"model": asked.source.model, "pictures": told, "notes": notes})
    lines = [
        (str(one.path), found[0][0], ", ".join(f"{t} {share:.0%}" for t, _, share in found[:SHOWN]))
        for one, found in rows
    ]
    asked.talk.show(table(("picture", "label", "shares"), lines))
    return 0


Found = list[tuple[str, float, float]]
"""Texts, the best first, with cosine and share."""


def _compared(
    options: Options, texts: Sequence[str], templates: Sequence[str]
) -> tuple[Asked, list[tuple[Given, Found]], list[str]]:
    """Every picture with all texts."""
    from sfumato.apps.clip_search import eyes_of, seen
    from sfumato.core.request import Ranking, Score

    asked = Asked.open(options, Score)
    templates = tuple(templates) or eyes_of(asked).templates
    listed, notes = _listed(options.given), list[str]()
    rows: list[tuple[Given, Found]] = []
    with asked.bar("comparing") as report:
        for part in seen(asked, listed, notes):
            request = Score(
                count=len(part.given), images=part.pixels, texts=tuple(texts), templates=tuple(templates)
            )
            answer = asked.answer(request, lambda _: None)
            assert isinstance(answer, Ranking)
            rows += [(one, answer.best(i)) for i, one in enumerate(part.given)]
            notes += answer.notes
            report((part.first + len(part.given)) / len(listed))
    notes = list(dict.fromkeys(notes))
    for note in notes:
        asked.talk.warn(note)
    asked.talk.note(f"{counted(len(rows), 'picture')} by '{asked.source.model}'")
    return asked, rows, notes


def _listed(places: Sequence[str]) -> list[Given]:
    from sfumato.apps import given

    return given.listed([Path(place) for place in places])
