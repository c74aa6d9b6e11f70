"""The verb ``curate``: from pages or a folder of pictures to shards of pictures with texts that fit them."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from sfumato.apps.talk import Common, Talk, counted, table
from sfumato.errors import DataError, UsageError

if TYPE_CHECKING:
    from sfumato.apps.curation import Curation

HEAD = "aesthetic.safetensors"
"""Where a head that was fitted to scores is kept."""
TABLES = (".csv", ".jsonl")
"""Scores of one's own: a table with the columns picture and score."""


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Make shards to train on from saved pages, crawl files (WAT) or a folder of pictures with texts.

    Example: sfumato curate saved_web --out shards --clip clip-shapes --keep-best 0.5
    then: sfumato train ldm laptop --data shards

    Stopped at any moment, the same command goes on. Choosing anew (--again with other thresholds) examines
    nothing again. Nothing is fetched from the network without --allow-network.
    """

    source: Annotated[Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """A folder of .html or .wat files with pictures, a folder of pictures with texts, or one such file."""
    out: Path
    """Folder for the shards."""
    clip: str = ""
    """A CLIP that scores how well texts fit: a model, a run, or a public folder."""
    min_similarity: float | None = None
    """Least cosine of picture and text; the right value differs from CLIP to CLIP (LAION-5B: .28)."""
    keep_best: float | None = None
    """Or the share of pairs to keep, by their cosine."""
    aesthetic: Path | None = None
    """A linear head (.pth as LAION's, .safetensors), or your own scores (.csv, .jsonl: picture, score)."""
    min_aesthetic: float | None = None
    """Least score of that head."""
    unsafe_head: Path | None = None
    """A linear head whose logistic function is the likelihood of an unsafe picture."""
    words: Path | None = None
    """A file of further words that mark a text as unsafe."""
    unsafe: Literal["drop", "tag"] = "drop"
    """What happens to pictures that words or the head call unsafe."""
    duplicates: Literal["near", "exact"] = "near"
    """Whether copies of other sizes and qualities are dropped too, or only files that are the same."""
    min_chars: int = 5
    """Fewest characters of a text."""
    max_chars: int = 1000
    """Most characters of a text."""
    languages: tuple[str, ...] = ("en", "nolang")
    """Languages to keep; "nolang" are names, numbers and single words; "any" keeps all."""
    min_bytes: int = 5000
    """Fewest bytes of a picture's file."""
    min_side: int = 64
    """Fewest pixels of a picture's shorter side."""
    max_aspect: float = 3.0
    """Most times that one side may be as long as the other."""
    max_pixels: int = 64_000_000
    """Most pixels of a picture; larger ones are not even decoded."""
    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Make shorter sides this small; without it upright JPEG files stay as they are but for their notes."""
    shard_size: int = 10_000
    """Samples of a shard."""
    workers: int | None = None
    """Processes; as many as there are cores by default."""
    engine: Literal["local", "ray"] = "local"
    """Processes of this machine, or Ray (extra 'scale'; with RAY_ADDRESS many machines): equal shards."""
    device: str = "auto"
    """Where the CLIP runs."""
    again: bool = False
    """Choose anew by other thresholds among what was examined before."""
    allow_network: bool = False
    """Fetch pictures that are not on disk from the public network."""


def main(options: Options) -> int:
    """List, examine, decide, write; the folder goes to stdout."""
    from sfumato.core import durable

    if not options.source.expanduser().exists():
        raise DataError(f"There is no '{options.source}'; give a folder of pages or pictures, or a page")
    _fresh(options)
    work = options.out / ".work"
    work.mkdir(parents=True, exist_ok=True)
    lock, talk = durable.hold(work / "lock", f"The folder {options.out}"), options.talk
    try:
        curation = curation_of(options)
        curation.begin(again=options.again)
        told = _told_before(curation) or curate(curation, options, talk)
    finally:
        os.close(lock)
    talk.result(told)
    talk.show(table(["", ""], rows(told)))
    talk.line(str(options.out))
    return 0


def _fresh(options: Options) -> None:
    """Refuse a folder with something else in it before anything is put there."""
    out = options.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"'{out}' is a file; give --out a folder.")
    if out.is_dir() and not (out / ".work").exists() and any(out.iterdir()):
        raise UsageError(f"'{out}' is not empty; give --out a new folder.")


def curation_of(options: Options) -> Curation:
    """What is asked for; fits the aesthetics head first if scores are given."""
    from sfumato.apps.curation import Curation
    from sfumato.apps.decide import Choice
    from sfumato.apps.examine import Examination
    from sfumato.data.rules import Rules

    choice = Choice(
        min_similarity=options.min_similarity,
        keep_best=options.keep_best,
        min_aesthetic=options.min_aesthetic,
        unsafe=options.unsafe,
        duplicates=options.duplicates,
    )
    scored = choice.min_similarity is not None or choice.keep_best is not None
    if scored and not options.clip:
        raise UsageError("A threshold on texts that fit needs a CLIP to score them; say which with --clip")
    if choice.min_aesthetic is not None and options.aesthetic is None:
        raise UsageError("--min-aesthetic needs a head or scores of your own; give --aesthetic")
    examination = Examination(
        source=str(options.source.expanduser().resolve()),
        rules=Rules(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Rules)}),
        clip=options.clip,
        aesthetic=_head(options),
        unsafe="" if options.unsafe_head is None else str(options.unsafe_head.resolve()),
        words=() if options.words is None else _words(options.words),
        device=options.device,
        allow_network=options.allow_network,
    )
    return Curation(options.out, examination, choice, options.shard_size, options.size)


def curate(curation: Curation, options: Options, talk: Talk) -> dict[str, Any]:
    """All of it, as far as it is not done yet; gives what ``curation.json`` says."""
    from sfumato.apps.curation import examine_block, write_shard
    from sfumato.apps.examine import BLOCK
    from sfumato.apps.scale import engine

    with engine(options.engine, options.workers) as workers:
        talk.note("looking for pictures with texts")
        listed = curation.list_pairs()
        start = time.monotonic()
        done = _all("examining", examine_block, curation, range(listed.blocks), workers.each, talk)
        if done:
            pace = min(done * BLOCK, listed.pairs) / (time.monotonic() - start)
            talk.note(f"examined {counted(listed.pairs, 'pair')}, about {pace:,.0f} a second")
        shards = curation.plan(listed.blocks)
        _all("writing shards", write_shard, curation, range(shards), workers.each, talk)
    return curation.finish(shards)


def _all(
    what: str,
    piece: Callable[[Curation, int], None],
    curation: Curation,
    numbers: Sequence[int],
    each: Callable[..., Iterator[int]],
    talk: Talk,
) -> int:
    """Have pieces done that are not; how many that were."""
    from sfumato.apps.bar import Bar

    todo = [number for number in numbers if not curation.has(piece.__name__, number)]
    with Bar(what, talk) as bar:
        for done, _ in enumerate(each(piece, curation, todo), start=1):
            bar.update(done / len(todo), f"{done:,} of {len(todo):,}")
    return len(todo)


def _told_before(curation: Curation) -> dict[str, Any] | None:
    path = curation.out / "curation.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def rows(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The outcome in words."""
    found, kept = told["found"], told["kept"]
    lines = [("found", f"{found:,}")]
    lines += [(f"  {reason}", f"{count:,}") for reason, count in told["dropped"].items()]
    lines += [("kept", f"{kept:,} ({kept / found:.1%})" if found else "0")]
    lines += [("languages", ", ".join(f"{code} {n:,}" for code, n in told["language"].items()) or "none")]
    if cosines := told["quantiles"].get("similarity"):
        lines += [("cosines", f"{cosines['0.05']:.3f} to {cosines['0.95']:.3f}, median {cosines['0.5']:.3f}")]
    size = sum(shard["bytes"] for shard in told["shards"])
    return [*lines, ("shards", f"{len(told['shards']):,}, {size / 1e6:,.1f} MB")]


# --- scores of one's own ---------------------------------------------------------------------------


def _head(options: Options) -> str:
    """The file of the aesthetics head; one that is fitted to scores is kept with the data set."""
    if options.aesthetic is None:
        return ""
    if options.aesthetic.suffix.lower() not in TABLES:
        return str(options.aesthetic.resolve())
    if not options.clip:
        raise UsageError("Scores of your own are for pictures as a CLIP sees them; say which with --clip")
    from sfumato.core import durable

    path = options.out / ".work" / HEAD
    if not path.exists():
        fit = fitted(options.aesthetic, options.clip, options.device)
        aside = path.with_suffix(".part")
        durable.write_tensors(aside, fit.head.tensors())
        aside.replace(path)
        options.talk.note(
            f"aesthetics head fitted to {fit.n} scores; each foretold from the others: "
            f"rank correlation {fit.spearman:.2f}"
        )
    return str(path.resolve())


def fitted(scores: Path, clip: str, device: str = "auto") -> Any:
    """A head fitted to scores of pictures; their paths are relative to the table."""
    import torch

    from sfumato.apps.examine import CHUNK, scorer_named
    from sfumato.apps.given import read_square
    from sfumato.metrics.aesthetic import fit_head

    told = read_scores(scores)
    scorer, side = scorer_named(clip, device)
    pixels = [read_square(scores.parent / picture, 3, side) for picture, _ in told]
    with torch.no_grad():
        parts = torch.stack(pixels).split(CHUNK)
        embeddings = torch.cat([scorer.encode_images(part).cpu() for part in parts])
    return fit_head(embeddings, [score for _, score in told])


def read_scores(path: Path) -> list[tuple[str, float]]:
    """Pictures and their scores from a table; ``DataError`` names the line that cannot be read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read scores '{path}': {error}; give a UTF-8 table.") from error
    lines = text.splitlines()
    if path.suffix.lower() == ".csv":
        found: list[Any] = list(csv.DictReader(lines))
    else:
        found = [_object(line) for line in lines if line.strip()]
    told = []
    for number, row in enumerate(found, start=1):
        try:
            told.append((str(row["picture"]), float(row["score"])))
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"Row {number} of '{path}' has no picture with a score; write the columns picture and score."
            ) from None
    return told


def _object(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _words(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read words '{path}': {error}; give a UTF-8 text.") from error
