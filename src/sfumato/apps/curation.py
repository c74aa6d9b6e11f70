"""The folder in which a data set is curated: lists pairs, has them examined, decides, writes shards.

    OUT/000000.tar 000000.jsonl 000000_stats.json     a shard, what is known of its samples, their statistics
    OUT/dropped.jsonl curation.json README.md         what was left out and why; all in numbers; the card
    OUT/.work/                                        pairs, records, plan: what makes it possible to go on

Every file is written aside and renamed, and each part of the work is a function of files that stay as they
are. So it goes on after a kill at any moment, and who does which part, in which order, changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from sfumato import __version__
from sfumato.apps.datacard import card, measured
from sfumato.apps.decide import Candidate, Choice, Drop, candidate, decide, key_of
from sfumato.apps.examine import BLOCK, Examination, examine, kept_file, pair_file, record_file
from sfumato.core import durable
from sfumato.data.dedup import Bloom
from sfumato.data.jpeg import as_jpeg
from sfumato.data.pages import Pair, Refused, gather
from sfumato.data.places import Places, Unavailable
from sfumato.data.shards import Sample, write_samples
from sfumato.errors import UsageError
from sfumato.images import PictureError

FORMAT = 1
SHARD = 10_000
"""Samples of a shard, as img2dataset's default."""
_TOLD = ("address", "text", "page", "detail")
"""What is noted of a pair that was left out."""
_FACTS = (
    "page", "licence", "language", "nsfw", "similarity", "punsafe", "aesthetic", "sha256", "hash",
)  # fmt: skip


class Listed(NamedTuple):
    """How much there is to examine."""

    blocks: int
    pairs: int


@dataclass(frozen=True)
class Curation:
    """One data set to be made; small and plain, so that every worker can be handed it."""

    out: Path
    examination: Examination
    choice: Choice = Choice()
    shard: int = SHARD
    """Samples of a shard."""
    size: int | None = None
    """Pixels that the shorter sides of larger pictures are brought to; None keeps files as they are."""

    def __post_init__(self) -> None:
        if self.shard < 1:
            raise UsageError(f"A shard holds at least 1 sample, not {self.shard}; give another --shard-size.")

    @property
    def work(self) -> Path:
        return self.out / ".work"

    # --- settings ----------------------------------------------------------------------------------

    def begin(self, *, again: bool = False) -> None:
        """Make the folder, or check that what is there was begun alike.

        ``again`` throws away shards that were chosen differently; what was examined stays. ``UsageError`` for
        a folder that holds something else.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        wanted = {"examination": self.examination.pinned(), "choice": self._chosen()}
        path = self.work / "settings.json"
        begun = json.loads(path.read_text()) if path.exists() else None
        if begun is None and any(entry.name != ".work" for entry in self.out.iterdir()):
            raise UsageError(f"'{self.out}' is not empty; give --out a new folder.")
        if begun is not None and begun["examination"] != wanted["examination"]:
            raise UsageError(
                f"'{self.out}' was begun with other settings ({_differences(begun, wanted, 'examination')}); "
                "repeat those, or give --out a new folder."
            )
        if begun is not None and begun["choice"] != wanted["choice"]:
            if not again:
                raise UsageError(
                    f"'{self.out}' was chosen by other settings ({_differences(begun, wanted, 'choice')}); "
                    "repeat those, or choose anew with --again."
                )
            self._forget()
        if begun != wanted:
            durable.write_json(path, wanted)

    def _chosen(self) -> dict[str, Any]:
        return {**asdict(self.choice), "shard": self.shard, "size": self.size}

    def _forget(self) -> None:
        """Remove shards; the plan goes last, so that half of this can be done again."""
        for pattern in ("curation.json", "README.md", "dropped.jsonl", "*_stats.json", "*.tar", "*.jsonl"):
            for path in self.out.glob(pattern):
                path.unlink()
        shutil.rmtree(self.work / "plan", ignore_errors=True)

    # --- pieces: what other processes do -----------------------------------------------------------

    def has(self, piece: str, number: int) -> bool:
        """Whether a piece of work, by the name of its function, is done."""
        done = {"examine_block": record_file(self.work, number), "write_shard": stats_file(self.out, number)}
        return done[piece].exists()

    # --- first: the pairs --------------------------------------------------------------------------

    def list_pairs(self) -> Listed:
        """List all pairs in blocks; done once, then only counted."""
        told = self.work / "gathered.json"
        if told.exists():
            counts = json.loads(told.read_text())
            return Listed(counts["blocks"], counts["pairs"])
        for folder in (pair_file(self.work, 0).parent, record_file(self.work, 0).parent):
            folder.mkdir(exist_ok=True)
        dropped: Counter[str] = Counter()
        blocks = listed = 0
        with durable.replacing(self.work / "refused.jsonl") as refused:
            pairs = self._wanted(dropped, refused)
            while block := list(islice(pairs, BLOCK)):
                durable.write_text(pair_file(self.work, blocks), _lines(asdict(pair) for pair in block))
                blocks, listed = blocks + 1, listed + len(block)
        durable.fault("curate.before_gathered")
        durable.write_json(
            told, {"blocks": blocks, "pairs": listed, "dropped": dict(sorted(dropped.items()))}
        )
        return Listed(blocks, listed)

    def _wanted(self, dropped: Counter[str], refused: IO[bytes]) -> Iterator[Pair]:
        """Pairs whose text keeps the rules and whose address is new; the others are counted and noted."""
        seen = Bloom()
        for found in gather(Path(self.examination.source)):
            if isinstance(found, Refused):
                reason, told = found.reason, {"page": found.where}
            else:
                reason, _ = self.examination.rules.text(found.text)
                told = {k: v for k, v in asdict(found).items() if v}
                if not reason and not seen.add(found.address):
                    reason = "address seen before"
                if not reason:
                    yield found
                    continue
            dropped[reason] += 1
            refused.write(_lines([told | {"reason": reason}]).encode())

    # --- third, after every block was examined: the choice -----------------------------------------

    def plan(self, blocks: int) -> int:
        """Decide, and write what belongs into each shard; gives the number of shards."""
        told = self.work / "plan" / "plan.json"
        if told.exists():
            return int(json.loads(told.read_text())["shards"])
        candidates = list(self._candidates(blocks))
        kept, drops = decide(candidates, self.choice)
        place = {(one.block, one.line): rank // self.shard for rank, one in enumerate(kept)}
        by_line = {(candidates[n].block, candidates[n].line): drop for n, drop in drops.items()}
        aside = self.work / "plan.tmp"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        dropped, lines = self._share(blocks, place, by_line, aside)
        with durable.replacing(self.out / "dropped.jsonl") as file:
            with (self.work / "refused.jsonl").open("rb") as refused:
                shutil.copyfileobj(refused, file)
            file.write("".join(lines).encode())
        shards = -(-len(kept) // self.shard)
        durable.write_json(aside / "plan.json", {"shards": shards, "samples": len(kept), "dropped": dropped})
        shutil.rmtree(told.parent, ignore_errors=True)
        durable.fault("curate.before_plan")
        os.replace(aside, told.parent)
        durable.sync(self.work)
        return shards

    def _records(self, blocks: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
        for block in range(blocks):
            text = record_file(self.work, block).read_text(encoding="utf-8")
            for line, record in enumerate(text.splitlines()):
                yield block, line, json.loads(record)

    def _candidates(self, blocks: int) -> Iterator[Candidate]:
        for block, line, record in self._records(blocks):
            if "drop" not in record:
                yield candidate(block, line, record, self.choice)

    def _share(
        self,
        blocks: int,
        place: Mapping[tuple[int, int], int],
        drops: Mapping[tuple[int, int], Drop],
        aside: Path,
    ) -> tuple[dict[str, int], list[str]]:
        """Write every kept record into the list of its shard; count the others and note them."""
        dropped, lines = Counter[str](), []
        for block, line, record in self._records(blocks):
            if (number := place.get((block, line))) is not None:
                with (aside / f"{number:06d}.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
                continue
            drop = drops.get((block, line)) or Drop(record["drop"])
            dropped[drop.reason] += 1
            told = {name: value for name, value in record.items() if name in _TOLD}
            told |= {"reason": drop.reason} | ({"of": drop.of} if drop.of else {})
            lines.append(json.dumps(told) + "\n")
        return dict(sorted(dropped.items())), lines

    # --- last: everything in numbers ---------------------------------------------------------------

    def finish(self, shards: int) -> dict[str, Any]:
        """Add up the statistics of all shards, write them and the card, and forget what was fetched."""
        listed = json.loads((self.work / "gathered.json").read_text())
        planned = json.loads((self.work / "plan" / "plan.json").read_text())
        every = [json.loads(stats_file(self.out, number).read_text()) for number in range(shards)]
        dropped = Counter(listed["dropped"]) + Counter(planned["dropped"])
        dropped += sum((Counter(one["dropped"]) for one in every), Counter())
        rows = (json.loads(line) for n in range(shards) for line in _read(self.out / f"{n:06d}.jsonl"))
        told = {
            "format": FORMAT,
            "sfumato": __version__,
            "found": listed["pairs"] + sum(listed["dropped"].values()),
            "kept": sum(one["samples"] for one in every),
            "dropped": dict(dropped.most_common()),
            **measured(rows),
            "shards": [{key: one[key] for key in ("name", "samples", "bytes", "sha256")} for one in every],
            "settings": json.loads((self.work / "settings.json").read_text()),
        }
        durable.write_text(self.out / "README.md", card(told))
        durable.write_json(self.out / "curation.json", told)
        shutil.rmtree(self.work / "fetched", ignore_errors=True)
        return told


def examine_block(curation: Curation, number: int) -> None:
    """Have one block of pairs examined."""
    examine(curation.work, curation.examination, number)


def write_shard(curation: Curation, number: int) -> None:
    """Write one shard, then what is known of its samples, and last its statistics: these say it is whole."""
    stats = stats_file(curation.out, number)
    if stats.exists():
        return
    planned = [json.loads(line) for line in _read(curation.work / "plan" / f"{number:06d}.jsonl")]
    keyed = sorted(
        ((key_of(record["sha256"], record["text"]), record) for record in planned), key=lambda p: p[0]
    )
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    tar = curation.out / f"{number:06d}.tar"
    with durable.replacing(tar) as file:
        write_samples(file, _samples(curation, keyed, rows, dropped))
        durable.fault("curate.before_shard")
    durable.write_text(tar.with_suffix(".jsonl"), _lines(rows))
    told = {
        "name": tar.name,
        "samples": len(rows),
        "bytes": tar.stat().st_size,
        "sha256": durable.sha256(tar),
        "dropped": dict(sorted(dropped.items())),
        **measured(rows),
    }
    durable.fault("curate.before_stats")
    durable.write_json(stats, told)


def _samples(
    curation: Curation,
    keyed: Iterable[tuple[str, Mapping[str, Any]]],
    rows: list[dict[str, Any]],
    dropped: Counter[str],
) -> Iterator[Sample]:
    examination = curation.examination
    source = Path(examination.source)
    places = Places(source if source.is_dir() else source.parent)
    for key, record in keyed:
        try:
            data = _file(places, curation.work / "fetched", record["address"])
            if hashlib.sha256(data).hexdigest() != record["sha256"]:
                raise Unavailable("changed while the data set was made")
            picture, height, width = as_jpeg(data, curation.size, examination.rules.max_pixels)
        except (Unavailable, PictureError) as error:
            dropped[error.reason if isinstance(error, Unavailable) else "picture cannot be read"] += 1
            continue
        row = {
            "key": key,
            "url": record["address"],
            "caption": record["text"],
            "width": width,
            "height": height,
        }
        row |= {f"original_{side}": record[side] for side in ("width", "height")}
        row |= {name: record[name] for name in _FACTS if name in record}
        rows.append(row)
        yield Sample(key, picture, record["text"], row)


def _file(places: Places, fetched: Path, address: str) -> bytes:
    kept = kept_file(fetched, address)
    return kept.read_bytes() if kept.exists() else places.read(address)


def stats_file(out: Path, number: int) -> Path:
    return out / f"{number:06d}_stats.json"


def _lines(values: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def _read(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def _differences(begun: Mapping[str, Any], wanted: Mapping[str, Any], part: str) -> str:
    """Settings that are not the same, as "size 64 before, 128 now"."""
    old, new = _flat(begun[part]), _flat(wanted[part])
    return "; ".join(
        f"{name} {old.get(name)} before, {new.get(name)} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    )


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return found
