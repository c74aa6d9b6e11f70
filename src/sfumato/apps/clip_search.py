"""Search among pictures by words: what a CLIP saw of each is kept, so that it looks only once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sfumato import images
from sfumato.apps import given, sheet
from sfumato.apps.ask import Asked
from sfumato.apps.clip_options import Options
from sfumato.apps.load import load
from sfumato.apps.pictures import free, slug
from sfumato.apps.sample import answer
from sfumato.apps.talk import counted
from sfumato.core.contrastive import Contrastive
from sfumato.core.durable import write_tensors
from sfumato.core.request import Embeddings, Imagine, Ranking, Score
from sfumato.errors import UsageError
from sfumato.systems.text.prior import UnclipPrior

if TYPE_CHECKING:
    from sfumato.apps.given import Given, Part

COLUMNS = 6
FORMAT = 1


@dataclass(frozen=True)
class Index:
    """Unit vectors of pictures by their paths, each with the size and time at which it was seen."""

    model: str
    """The fingerprint of the weights that looked."""
    vectors: Mapping[str, Float[Tensor, " d"]]
    state: Mapping[str, tuple[int, int]]

    @classmethod
    def read(cls, path: Path, model: str) -> Index:
        """What was kept; nothing if there is no such file, or another model's, or it is damaged."""
        if not path.is_file():
            return cls(model, {}, {})
        try:
            with safe_open(path, framework="pt") as file:
                told = json.loads((file.metadata() or {}).get("sfumato", "{}"))
                rows = file.get_tensor("images") if told.get("model") == model else torch.empty(0)
        except (SafetensorError, ValueError, OSError):
            return cls(model, {}, {})
        if told.get("format") != FORMAT or len(rows) != len(told["pictures"]):
            return cls(model, {}, {})
        state = {name: (size, changed) for name, size, changed in told["pictures"]}
        return cls(model, dict(zip(state, rows, strict=True)), state)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures = [(name, *self.state[name]) for name in self.vectors]
        told = {"format": FORMAT, "model": self.model, "pictures": pictures}
        write_tensors(
            path, {"images": torch.stack(list(self.vectors.values()))}, {"sfumato": json.dumps(told)}
        )


def search(options: Options) -> int:
    """Look at what has not been seen yet, compare all with the words, and show the best."""
    if len(options.given) < 2:
        raise UsageError(
            'Search where, and for what? For example: sfumato clip search ./photos "a red circle"'
        )
    *places, words = options.given
    if options.top < 1:
        raise UsageError(f"--top must be at least 1, got {options.top}")
    listed = given.listed([Path(place) for place in places])
    asked = Asked.open(options, Score)
    eyes = eyes_of(asked)
    model = eyes.fingerprint
    key = hashlib.blake2b(repr((model, [str(Path(p).resolve()) for p in places])).encode(), digest_size=4)
    path = options.index or options.out / f"index-{key.hexdigest()}.safetensors"
    notes: list[str] = []
    index, fresh = _looked(asked, listed, Index.read(path, model), notes)
    index.write(path)

    text = _wanted(options, eyes, words)
    notes += eyes.unread([words])
    names = list(index.vectors)
    cosines = torch.stack(list(index.vectors.values())) @ text
    best = cosines.argsort(descending=True, stable=True)[: options.top].tolist()
    hits = [(Path(names[k]), float(cosines[k])) for k in best]
    shown = _sheet(hits, words, options.out, asked.source.model)
    told = [{"file": str(file), "score": hundredfold(c), "cosine": c} for file, c in hits]
    for note in notes:
        asked.talk.warn(note)
    asked.talk.note(
        f"{counted(len(names), 'picture')}, {fresh} of them new, by '{asked.source.model}'; index in {path}"
    )
    report = {"words": words, "hits": told, "searched": len(names), "new": fresh, "notes": notes}
    asked.talk.result(report | {"model": asked.source.model, "files": [str(shown), str(path)]})
    for file, cosine in hits:
        asked.talk.line(f"{hundredfold(cosine):.1f}  {file}")
    asked.talk.line(str(shown))
    return 0


@torch.no_grad()
def _wanted(options: Options, eyes: Contrastive, words: str) -> Float[Tensor, " d"]:
    """The unit vector that pictures are compared with: that of the words, or of the picture they call up."""
    if not options.prior:
        return eyes.encode_labels([words], options.templates or ("{}",))[0].float().cpu()
    prior = load(options.prior, precision=options.precision, device=options.device)
    if not isinstance(prior, UnclipPrior):
        raise UsageError(
            f"'{options.prior}' is a {type(prior).__name__}, no prior; train one with 'sfumato train prior'"
        )
    if prior.clip.fingerprint != eyes.fingerprint:
        raise UsageError(
            f"The prior '{options.prior}' was trained on another CLIP; give that one with --model"
        )
    found = answer(prior, Imagine(count=1, prompt=words))
    assert isinstance(found, Embeddings)
    return found.vectors[0].float().cpu()


def _looked(asked: Asked, listed: Sequence[Given], kept: Index, notes: list[str]) -> tuple[Index, int]:
    """The index of these very pictures, and how many had to be looked at."""
    state = {str(one.path): _state(one.path) for one in listed}
    vectors = {name: kept.vectors[name] for name in state if kept.state.get(name) == state[name] != (0, 0)}
    known = len(vectors)
    missing = [one for one in listed if str(one.path) not in vectors]
    with asked.bar("looking") as report:
        for part in seen(asked, missing, notes, or_none=bool(vectors)):
            request = Score(count=len(part.given), images=part.pixels, texts=("",))
            found = asked.answer(request, lambda _: None)
            assert isinstance(found, Ranking)
            rows = found.images.float().cpu()
            vectors |= {str(one.path): row for one, row in zip(part.given, rows, strict=True)}
            report((part.first + len(part.given)) / len(missing))
    ordered = {name: vectors[name] for name in state if name in vectors}
    return Index(kept.model, ordered, state), len(ordered) - known


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # a link to nothing: reading it will say so
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _sheet(hits: Sequence[tuple[Path, float]], words: str, out: Path, model: str) -> Path:
    cells = [
        sheet.Cell(
            images.open_image(file, at_least=(sheet.SIDE, sheet.SIDE)),
            file.name,
            f"{hundredfold(c):.1f}",
        )
        for file, c in hits
    ]
    settings = {"task": "search", "words": words, "model": model, "hits": [str(file) for file, _ in hits]}
    path = free(out / f"search{slug(words)}.png", settings | {"title": words})
    rows = [cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS)]
    sheet.write_table(rows, path, words, settings=settings)
    return path


def eyes_of(asked: Asked) -> Contrastive:
    """The model as what compares pictures with words."""
    assert isinstance(asked.system, Contrastive)
    return asked.system


def seen(
    asked: Asked, listed: Sequence[Given], skipped: list[str], *, or_none: bool = False
) -> Iterator[Part]:
    """Pictures as the model takes them, many at a time; those of folders that cannot be read are told."""
    eyes = eyes_of(asked)

    def read(path: Path) -> Tensor:
        picture = images.open_image(path, at_least=eyes.size)
        return images.to_tensor(images.cover(picture, *eyes.size), channels)

    channels = asked.system.channels
    return given.parts(listed, channels, None, skipped, read=read, or_none=or_none)


def hundredfold(cosine: float) -> float:
    """CLIP score: 100 times the cosine, and 0 below it."""
    return max(100 * cosine, 0.0)
