"""The verb ``read``: the words in pictures as text, with how sure the reader is."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import Positional

from sfumato.apps.ask import Asked, Asking, Choosing
from sfumato.apps.bar import duration
from sfumato.apps.talk import counted, table
from sfumato.errors import DataError, UsageError

if TYPE_CHECKING:
    from sfumato.apps.given import Given
    from sfumato.apps.pages import Ask, Page
    from sfumato.core.system import System

COLUMNS = ("file", "line", "word", "text", "confidence", "left", "top", "right", "bottom")


@dataclass(frozen=True, kw_only=True)
class Options(Asking):
    """Read the words in pictures: a scan of a page, of a line or of a word.

    Example: sfumato read scan.png --csv words.csv

    Pages are cut into lines and words where white parts them. What lies askew or upside down is turned, paper
    may be dark, and photographs lie as their camera was held. An empty page has no text, and a note says so.
    """

    pictures: Annotated[Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[PICTURE ...]")] = ()
    """Files, or folders of JPEG, PNG or WebP files."""
    word: bool = False
    """Each picture is a single word: do not look for lines and words."""
    beam: int = 1
    """Readings that are followed at once, of which the likeliest wins."""
    csv: Path | None = None
    """A file for a table of all words with their places."""
    draw: bool = False
    """Also write each picture with boxes and words drawn into it, into --out."""

    def load(self, name: str | Path) -> System[Any]:
        """As ``Asking.load``; without --draw nothing is written, and no place is needed."""
        return super().load(name) if self.draw else Choosing.load(self, name)


def main(options: Options) -> int:
    """Load, read, tell; the text goes to stdout."""
    if options.beam < 1:
        raise UsageError(f"--beam must be at least 1, got {options.beam}")
    from sfumato.apps import given
    from sfumato.core.request import Read

    listed = given.listed(options.pictures)
    asked = Asked.open(options, Read)
    notes: list[str] = []
    pages: list[tuple[Given, Page]] = []
    with asked.bar("reading") as report:
        for i, one in enumerate(listed):
            page = _page(asked, options, one, notes, lambda done, i=i: report((i + done) / len(listed)))
            if page is not None:
                pages.append((one, page))
    if not pages:
        raise DataError(f"None of the {len(listed)} pictures can be read: {notes[0]}; give others")
    files = _files(pages, options, asked)
    for note in dict.fromkeys(notes):
        asked.talk.warn(note)
    words = sum(len(page.words) for _, page in pages)
    took = duration(time.monotonic() - asked.started)
    asked.talk.note(
        f"{counted(words, 'word')} in {counted(len(pages), 'picture')} in {took} with loading, "
        f"by '{asked.source.model}'"
    )
    told = [_told(one, page) for one, page in pages]
    asked.talk.result({"pictures": told, "model": asked.source.model, "notes": notes, "files": files})
    asked.talk.show(table(("picture", "line", "text", "confidence"), _rows(pages)))
    return 0


def _page(asked: Asked, options: Options, one: Given, notes: list[str], told: Any) -> Page | None:
    """One picture read; None, with a note, for one of a folder that cannot be."""
    from sfumato import images
    from sfumato.apps.pages import read_page

    try:
        pixels = images.to_tensor(images.open_image(one.path), 1)
    except images.PictureError as error:
        if one.named:
            raise
        notes.append(f"left out: {error}")
        return None
    page = read_page(_ask(asked, options, notes), pixels, one_word=options.word, told=told)
    if page.upside_down:
        notes.append(f"'{one.path}' was upside down: it has been turned, since it reads better so")
    if page.risen:
        notes.append(f"'{one.path}' lay askew: it has been turned by {abs(page.risen):g} degrees")
    if not page.words:
        notes.append(f"'{one.path}' has no writing that can be told from its paper; its text is empty")
    return page


def _ask(asked: Asked, options: Options, notes: list[str]) -> Ask:
    from sfumato.apps.sample import silent
    from sfumato.core.request import Read, Text

    def ask(pixels: Any) -> Text:
        pixels = pixels.expand(-1, asked.system.channels, -1, -1)
        answer = asked.answer(Read(images=pixels, count=len(pixels), beam=options.beam), silent)
        assert isinstance(answer, Text)
        notes.extend(note for note in answer.notes if note not in notes)
        return answer

    return ask


def _told(one: Given, page: Page) -> dict[str, Any]:
    words = [
        {"text": word.text, "confidence": round(word.confidence, 4), **asdict(word.box)}
        for word in page.words
    ]
    return {
        "file": str(one.path),
        "text": page.text,
        "confidence": round(page.confidence, 4),
        "upside_down": page.upside_down,
        "words": words,
    }


def _rows(pages: Sequence[tuple[Given, Page]]) -> list[tuple[str, str, str, str]]:
    """A row of the table for every line, and one for a page without any."""
    from sfumato.apps.pages import mean, said

    rows = []
    for one, page in pages:
        rows += [
            (one.path.name, str(number), said(line), f"{mean(line):.2f}")
            for number, line in enumerate(page.lines, start=1)
        ] or [(one.path.name, "", "", "")]
    return rows


def _files(pages: Sequence[tuple[Given, Page]], options: Options, asked: Asked) -> list[str]:
    """Write what else was asked for."""
    from sfumato import images
    from sfumato.apps.pages import drawn
    from sfumato.apps.pictures import free
    from sfumato.core import durable

    files = []
    if options.csv is not None:
        options.csv.parent.mkdir(parents=True, exist_ok=True)
        durable.write_text(options.csv, _csv(_told(*one) for one in pages))
        files.append(options.csv)
    for one, page in pages if options.draw else ():
        settings = {"task": "read", "model": asked.source.model, "file": str(one.path), "text": page.text}
        path = free(options.out / one.name.with_name(f"{one.name.name}.png"), settings)
        images.save_png(drawn(page), path, settings)
        files.append(path)
    return [str(path) for path in files]


def _csv(told: Any) -> str:
    """A row a word; lines and words count from 1."""
    out = io.StringIO()
    rows = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    rows.writeheader()
    for picture in told:
        for number, word in enumerate(picture["words"], start=1):
            rows.writerow(_row(picture["file"], number, word))
    return out.getvalue()


def _row(file: str, number: int, word: Mapping[str, Any]) -> dict[str, Any]:
    return {**word, "file": file, "word": number, "line": word["line"] + 1}
