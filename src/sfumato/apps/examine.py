"""What is found out about a block of pairs, before any are chosen: a pure function of the block."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato import images
from sfumato.core import durable
from sfumato.data.dedup import Look, look
from sfumato.data.pages import HERE, Pair
from sfumato.data.places import Places, Unavailable
from sfumato.data.rules import Rules, WarningWords
from sfumato.errors import UsageError
from sfumato.images import PictureError, fit, measure, open_image, to_levels

if TYPE_CHECKING:
    from PIL.Image import Image

    from sfumato.metrics.aesthetic import Head

BLOCK = 256
"""Pairs that are examined together: always the same ones, so that nothing depends on how work is shared."""
CHUNK = 64
"""Pictures that CLIP looks at together."""
DIGITS = 4
"""Of cosines and scores; rounding makes small differences between machines harmless."""
_LEAST = 64
"""Pixels a side at which pictures are decoded at least, to be compared."""


@runtime_checkable
class Scorer(Protocol):
    """What judges whether texts and pictures belong together: CLIP, or whatever has its two functions."""

    def encode_images(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Unit vectors of pictures in [-1, 1]."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors of texts."""
        ...


@dataclass(frozen=True)
class Examination:
    """What decides about the result of examining; the same examination is never done twice."""

    source: str
    """Folder or file with the pairs."""
    rules: Rules = Rules()
    clip: str = ""
    """Model or folder of a CLIP; empty means that pairs are not scored."""
    aesthetic: str = ""
    """File of a linear head for how much pictures are liked."""
    unsafe: str = ""
    """File of a linear head whose logistic function is the likelihood that a picture is unsafe."""
    words: tuple[str, ...] = ()
    """Further warning words."""
    device: str = "auto"
    allow_network: bool = False

    def __post_init__(self) -> None:
        if (self.aesthetic or self.unsafe) and not self.clip:
            raise UsageError("Linear heads read CLIP's embeddings; say which CLIP with --clip.")

    def pinned(self) -> dict[str, Any]:
        """Itself in plain values, with checksums of the files it names."""
        told = asdict(self)
        told["rules"]["languages"] = list(self.rules.languages)
        for name in ("aesthetic", "unsafe"):
            if getattr(self, name):
                told[f"{name}_sha256"] = durable.sha256(Path(getattr(self, name)))
        if self.clip:
            told["clip_sha256"] = _weights_sha256(self.clip)
        return json.loads(json.dumps(told))


def _weights_sha256(name: str) -> str:
    """Of all weight files of a model together."""
    from sfumato.apps.load import folder_of

    place = folder_of(name)
    every = sorted(place.rglob("*")) if place.is_dir() else [place]
    files = [file for file in every if file.suffix in (".safetensors", ".bin", ".pt", ".pth")]
    return hashlib.sha256("".join(durable.sha256(file) for file in files).encode()).hexdigest()


def examine(work: Path, examination: Examination, number: int) -> None:
    """Examine a block and write what was found, a line a pair, at once."""
    path = record_file(work, number)
    if path.exists():
        return
    pairs = [Pair(**json.loads(line)) for line in pair_file(work, number).read_text().splitlines()]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums depend on the number of threads, and workers use all cores anyway
    try:
        records = Examiner.of(examination, work / "fetched").examine(pairs)
    finally:
        torch.set_num_threads(threads)
    durable.fault("curate.before_records")
    durable.write_text(path, "".join(json.dumps(record) + "\n" for record in records))


def pair_file(work: Path, number: int) -> Path:
    return work / "pairs" / f"{number:06d}.jsonl"


def record_file(work: Path, number: int) -> Path:
    return work / "records" / f"{number:06d}.jsonl"


@dataclass(frozen=True)
class Examiner:
    """All that looks at pairs, loaded once a process."""

    rules: Rules
    places: Places
    words: WarningWords
    fetched: Path
    """Where files from the network are kept until they are in a shard."""
    scorer: Scorer | None = None
    side: int = _LEAST
    """Pixels a side of what the scorer sees."""
    aesthetic: Head | None = None
    unsafe: Head | None = None

    @staticmethod
    @functools.lru_cache(maxsize=1)
    def of(examination: Examination, fetched: Path) -> Examiner:
        """Load what an examination names."""
        from sfumato.metrics.aesthetic import read_head

        scorer, side = None, _LEAST
        if examination.clip:
            scorer, side = scorer_named(examination.clip, examination.device)
        source = Path(examination.source)
        return Examiner(
            rules=examination.rules,
            places=Places(source if source.is_dir() else source.parent, examination.allow_network),
            words=WarningWords().more(examination.words),
            fetched=fetched,
            scorer=scorer,
            side=side,
            aesthetic=read_head(Path(examination.aesthetic)) if examination.aesthetic else None,
            unsafe=read_head(Path(examination.unsafe)) if examination.unsafe else None,
        )

    def examine(self, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
        """A record a pair: why it is dropped, or what is known of it."""
        records, looked = [], []
        for pair in pairs:
            record: dict[str, Any] = {k: v for k, v in asdict(pair).items() if v}
            try:
                facts, image = self._look(pair)
            except (Unavailable, PictureError) as error:
                record |= _dropped(error)
            else:
                record |= facts
                if self.scorer is not None and image is not None and "drop" not in facts:
                    looked.append((record, to_levels(fit(image, self.side, self.side))))
            records.append(record)
        if self.scorer is not None:
            for start in range(0, len(looked), CHUNK):
                self._score(self.scorer, looked[start : start + CHUNK])
        return records

    def _look(self, pair: Pair) -> tuple[dict[str, Any], Image | None]:
        data = self.places.read(pair.address)
        if reason := self.rules.file(len(data)):
            return {"drop": reason, "bytes": len(data)}, None
        kind, height, width = measure(io.BytesIO(data), max_pixels=self.rules.max_pixels)
        facts: dict[str, Any] = {"format": kind, "height": height, "width": width, "bytes": len(data)}
        if reason := self.rules.picture(height, width):
            return facts | {"drop": reason}, None
        least = max(self.side, _LEAST)
        image = open_image(io.BytesIO(data), max_pixels=self.rules.max_pixels, at_least=(least, least))
        if (image.width > image.height) != (width > height) and width != height:  # it stood on its side
            height, width = width, height
        seen = look(image, (width, height))
        if self.places.allow_network and not pair.address.startswith(HERE):
            _keep(kept_file(self.fetched, pair.address), data)
        return facts | {
            "height": height,
            "width": width,
            "sha256": hashlib.sha256(data).hexdigest(),
            "hash": f"{seen.hash:016x}",
            "colours": seen.colours.hex(),
            "language": self.rules.text(pair.text)[1],
            "nsfw": self.words.tag(pair.text, pair.address),
        }, image

    @torch.no_grad()
    def _score(self, scorer: Scorer, looked: Sequence[tuple[dict[str, Any], Tensor]]) -> None:
        """Cosine of picture and text (section 3.1: .28 for LAION-5B's CLIP), and what the heads say."""
        pictures = scorer.encode_images(images.from_levels(torch.stack([levels for _, levels in looked])))
        texts = scorer.encode_texts([record["text"] for record, _ in looked])
        pictures, texts = pictures.double().cpu(), texts.double().cpu()
        told = {"similarity": (pictures * texts).sum(1)}
        if self.aesthetic is not None:
            told["aesthetic"] = self.aesthetic(pictures)
        if self.unsafe is not None:
            told["punsafe"] = self.unsafe(pictures).sigmoid()
        for name, values in told.items():
            for (record, _), value in zip(looked, values.tolist(), strict=True):
                record[name] = round(value, DIGITS)


def scorer_named(name: str, device: str = "auto") -> tuple[Scorer, int]:
    """A CLIP and the pixels a side that it looks at; ``UsageError`` for a model that is none."""
    from sfumato.apps.load import load
    from sfumato.systems.text.clip import CLIP

    system = load(name, precision="fp32", device=device)
    if not isinstance(system, CLIP):
        raise UsageError(f"'{name}' holds a {type(system).__name__}, which does not score; give a CLIP.")
    return system, max(system.size)


def _dropped(error: Unavailable | PictureError) -> dict[str, Any]:
    if isinstance(error, Unavailable):
        return {"drop": error.reason}
    large = "allowed" in error.reason or "bomb" in error.reason
    return {"drop": "too many pixels" if large else "picture cannot be read", "detail": error.reason}


def kept_file(fetched: Path, address: str) -> Path:
    """Where the file from an address is kept: one place an address, so that no two processes write it."""
    digest = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()
    return fetched / digest[:2] / digest


def _keep(path: Path, data: bytes) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with durable.replacing(path) as file:
            file.write(data)


def look_of(record: Mapping[str, Any]) -> Look:
    """How the picture of a record looks."""
    aspect = math.log(record["width"] / record["height"])
    return Look(int(record["hash"], 16), bytes.fromhex(record["colours"]), aspect)
