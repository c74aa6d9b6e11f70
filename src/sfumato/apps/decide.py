"""Which of the examined pairs are kept: thresholds, then duplicates; whatever order they came in."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sfumato.apps.examine import look_of
from sfumato.data.dedup import RADIUS, TOLERANCE, Look, Looks
from sfumato.errors import UsageError

KEY = 16
"""Hexadecimal digits of a key."""


@dataclass(frozen=True)
class Choice:
    """What is kept of what was examined; changing it costs seconds, since nothing is examined again."""

    min_similarity: float | None = None
    """Least cosine of picture and text; the right value differs from CLIP to CLIP (LAION-5B: .28)."""
    keep_best: float | None = None
    """Or the share of pairs to keep, by their cosine."""
    min_aesthetic: float | None = None
    """Least score of the aesthetics head (Stable Diffusion was trained on 5 and more)."""
    max_unsafe: float = 0.5
    """Most likely that the head for unsafe pictures may say."""
    unsafe: Literal["drop", "tag"] = "drop"
    """What happens to pictures that words or the head call unsafe."""
    duplicates: Literal["near", "exact"] = "near"
    """Whether copies of other sizes and qualities are dropped too, or only files that are the same."""
    radius: int = RADIUS
    """Bits of 64 in which hashes of near duplicates may differ."""
    tolerance: float = TOLERANCE
    """Grey levels by which the small pictures of near duplicates may differ where they differ most."""

    def __post_init__(self) -> None:
        if self.min_similarity is not None and self.keep_best is not None:
            raise UsageError("--min-similarity and --keep-best are two ways to choose; give one of them.")
        if self.keep_best is not None and not 0 < self.keep_best <= 1:
            raise UsageError(f"--keep-best is a share above 0 and at most 1, got {self.keep_best}.")


class Candidate(NamedTuple):
    """What deciding must know of a pair, and where its record stands."""

    block: int
    line: int
    key: str
    picture: bytes
    """Checksum of its file."""
    look: Look
    pixels: int
    bytes: int
    similarity: float | None
    aesthetic: float | None
    unsafe: bool

    def rank(self) -> tuple[Any, ...]:
        """Of copies the first is kept: by most pixels, then largest file, best text, lowest key."""
        return -self.pixels, -self.bytes, -(self.similarity or 0.0), self.key


class Drop(NamedTuple):
    """A pair that is not kept."""

    reason: str
    of: str = ""
    """The key of what it is a copy of."""


def candidate(block: int, line: int, record: Mapping[str, Any], choice: Choice) -> Candidate:
    """A record that passed its examination, as a candidate."""
    likely = record["nsfw"] == "likely" or record.get("punsafe", 0.0) > choice.max_unsafe
    return Candidate(
        block,
        line,
        key_of(record["sha256"], record["text"]),
        bytes.fromhex(record["sha256"]),
        look_of(record),
        record["width"] * record["height"],
        record["bytes"],
        record.get("similarity"),
        record.get("aesthetic"),
        likely and choice.unsafe == "drop",
    )


def key_of(picture_sha256: str, text: str) -> str:
    """The key of a sample, from picture and text alone: wherever it is found, it is the same.

    >>> key_of("00" * 32, "a red circle")
    'f8168a1c893d44d4'
    """
    return hashlib.sha256(f"{picture_sha256}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()[:KEY]


def decide(candidates: Sequence[Candidate], choice: Choice) -> tuple[list[Candidate], dict[int, Drop]]:
    """The kept ones in the order of their keys, which is no order of the web; and the others, by position.

    Scores come before copies, so that a badly told copy does not take the place of a well told one.
    """
    drops: dict[int, Drop] = {}
    least = _least(candidates, choice)
    for number, one in enumerate(candidates):
        if reason := _unwanted(one, least, choice):
            drops[number] = Drop(reason)
    left = sorted((n for n in range(len(candidates)) if n not in drops), key=lambda n: candidates[n].rank())
    drops |= dict(_copies(candidates, left, choice))
    kept = sorted((candidates[n] for n in left if n not in drops), key=lambda one: one.key)
    return kept, drops


def _unwanted(one: Candidate, least: float, choice: Choice) -> str:
    if one.unsafe:
        return "unsafe"
    if one.similarity is not None and one.similarity < least:
        return "picture and text do not match"
    if choice.min_aesthetic is not None and _told(one.aesthetic, "aesthetic") < choice.min_aesthetic:
        return "not liked"
    return ""


def _least(candidates: Iterable[Candidate], choice: Choice) -> float:
    """The cosine below which nothing is kept; ``keep_best`` keeps that share of the safe ones, and ties."""
    if choice.min_similarity is None and choice.keep_best is None:
        return -math.inf
    values = sorted(_told(one.similarity, "clip") for one in candidates if not one.unsafe)
    if choice.keep_best is None:
        return choice.min_similarity or 0.0
    count = math.floor(choice.keep_best * len(values))
    return values[-count] if count else math.inf


def _told(value: float | None, option: str) -> float:
    if value is None:
        raise UsageError(f"Pairs were not scored; a threshold needs --{option}.")
    return value


def _copies(
    candidates: Sequence[Candidate], order: Iterable[int], choice: Choice
) -> Iterator[tuple[int, Drop]]:
    """Copies of what comes before them in the order."""
    files: dict[bytes, str] = {}
    looks, keys = Looks(choice.radius, choice.tolerance), list[str]()
    for number in order:
        one = candidates[number]
        if one.picture in files:
            yield number, Drop("copy of a file", files[one.picture])
            continue
        files[one.picture] = one.key
        if choice.duplicates == "near":
            found = looks.find(one.look)
            if found is not None:
                files[one.picture] = keys[found]
                yield number, Drop("copy of a picture", keys[found])
                continue
            looks.add(one.look)
            keys.append(one.key)
