"""The verb ``caption``: pictures described anew, as texts beside which a generator can be trained."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.apps.ask import Asked
from sfumato.apps.bar import duration
from sfumato.apps.remake import Resizing, part_of, size_of
from sfumato.apps.talk import counted
from sfumato.errors import DataError, UsageError

if TYPE_CHECKING:
    from sfumato.apps.given import Given


@dataclass(frozen=True, kw_only=True)
class Options(Resizing):
    """Describe pictures anew, each in a text file of its name.

    Example: sfumato caption ./photos --model runs/captioner-laptop --out retold --dataset

    Prints each picture's file and caption. Then: sfumato train ldm laptop --data retold
    """

    temperature: float = 0.0
    """How freely words are chosen: 1 as learned, 0 always the likeliest."""
    share: float = 0.95
    """Of pictures that have a caption (a.txt beside a.jpg), how many get a new one; by default DALL-E 3's."""
    dataset: bool = False
    """Also copy each picture beside its text, so that a model can be trained on what lies in --out."""


def main(options: Options) -> int:
    """Load, describe, write; files and captions go to stdout."""
    from sfumato.apps import given
    from sfumato.core.request import Caption, Text

    if not 0 <= options.share <= 1:
        raise UsageError(f"--share must lie between 0 and 1, got {options.share:g}")
    asked = Asked.open(options, Caption)
    listed, notes = given.listed(options.pictures), list[str]()
    size = size_of(options, asked)
    found, said = list[given.Given](), list[str]()
    with asked.bar("describing") as report:
        for part in given.parts(listed, asked.system.channels, size, notes):
            request = Caption(
                seed=options.seed + part.first,
                count=len(part.given),
                images=part.pixels,
                temperature=options.temperature,
            )
            answer = asked.answer(request, part_of(report, part.first, len(part.given), len(listed)))
            assert isinstance(answer, Text)
            found += part.given
            said += answer.texts
            notes += answer.notes
    captions = chosen(found, said, options.share, options.seed)
    pairs = list(zip(found, captions, strict=True))
    files = [written(options.out, one, text, options.dataset) for one, text in pairs]
    talk = asked.talk
    for note in dict.fromkeys(notes):
        talk.warn(note)
    seconds = time.monotonic() - asked.started
    talk.note(f"{counted(len(files), 'caption')} in {duration(seconds)} with loading, in '{options.out}'")
    told = {"files": [str(file) for file in files], "captions": captions, "model": asked.source.model}
    talk.result(told | {"notes": list(dict.fromkeys(notes)), "seconds": round(seconds, 3)})
    for one, text in pairs:
        talk.line(f"{one.path}\t{text}")
    return 0


def chosen(found: Sequence[Given], said: Sequence[str], share: float, seed: int) -> list[str]:
    """The new captions; of pictures that have one already, a share keeps its own."""
    from sfumato.data.retold import mixed

    captions = list(said)
    own = [i for i, one in enumerate(found) if one.path.with_suffix(".txt").is_file()]
    old = [found[i].path.with_suffix(".txt").read_text(encoding="utf-8").strip() for i in own]
    for i, text in zip(own, mixed(old, [said[i] for i in own], share, seed), strict=True):
        captions[i] = text
    return captions


def written(out: Path, one: Given, text: str, copied: bool) -> Path:
    """Write one caption, and beside it the picture if that is wanted; nothing else is overwritten."""
    file = (out / one.name).with_name(f"{one.name.name}.txt")
    if file.exists() and file.read_text(encoding="utf-8").strip() != text:
        raise DataError(f"'{file}' holds another text already; give another --out")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n", encoding="utf-8")
    if copied and (picture := file.with_suffix(one.path.suffix)).resolve() != one.path.resolve():
        shutil.copyfile(one.path, picture)
    return file
