"""What a user may ask of a system, and what a system answers.

A request is at once a command, an HTTP body and a form: its fields and their one-line descriptions are
what the user sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core.generate import Generate, Request
from sfumato.core.latent import Way
from sfumato.errors import UsageError
from sfumato.images import gif_tag, grid

__all__ = [
    "Branch",
    "Caption",
    "Complete",
    "Edit",
    "Embeddings",
    "Event",
    "Generate",
    "Images",
    "Imagine",
    "Invert",
    "Mix",
    "Progress",
    "Ranking",
    "Reconstruct",
    "Request",
    "Result",
    "Score",
    "Text",
    "Translate",
    "Upscale",
    "Video",
    "Walk",
    "in_parts",
]


@dataclass(frozen=True)
class Reconstruct(Request):
    """Send pictures through an autoencoder and back."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]."""


@dataclass(frozen=True)
class Translate(Request):
    """Turn pictures of one domain into pictures of another."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]."""
    direction: str = field(default="", kw_only=True)
    """Which way, for a system that knows several; empty means its first."""


@dataclass(frozen=True)
class Upscale(Request):
    """Make pictures larger, with detail that was not there."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]."""


@dataclass(frozen=True)
class Walk(Request):
    """Walk through latent space from picture to picture: ``count`` of them, with seeds from ``seed`` on, or
    those given."""

    frames: int = field(default=16, kw_only=True)
    """Steps from one picture to the next."""
    way: Way = field(default="slerp", kw_only=True)
    """Along great circles (slerp) or straight lines (lerp)."""
    loop: bool = field(default=False, kw_only=True)
    """Whether to walk back to the first picture."""
    label: int | str | None = field(default=None, kw_only=True)
    """Which class to show, for a system told labels."""
    truncation: float | None = field(default=None, kw_only=True)
    """As in ``Generate``."""
    steps: int | None = field(default=None, kw_only=True)
    """Of the solver, for a diffusion; none means the system's own default."""
    images: Float[Tensor, "n c h w"] | None = field(default=None, kw_only=True)
    """In [-1, 1]: pictures to walk between, for a system that can encode them; none means new ones."""


@dataclass(frozen=True)
class Branch(Request):
    """Pictures that come out of one noise: they share their way up to a moment, then part (Ho et al. 2020,
    figure 7)."""

    at: float = field(default=0.75, kw_only=True)
    """The time at which they part: 1 is noise, where they share nothing, and 0 is data."""
    label: int | str | None = field(default=None, kw_only=True)
    """Which class to show, for a system told labels."""
    steps: int | None = field(default=None, kw_only=True)
    """How many steps the whole way takes; none means the system's own default."""


@dataclass(frozen=True)
class Mix(Request):
    """Pictures with the coarse styles of one seed and the finer styles of another, for all pairs.

    The answer holds ``len(coarse) * len(fine)`` pictures, a row for each coarse seed.
    """

    coarse: tuple[int, ...] = field(kw_only=True)
    """Seeds of the pictures that give pose and shape."""
    fine: tuple[int, ...] = field(kw_only=True)
    """Seeds of the pictures that give colour and detail."""
    crossover: int | None = field(default=None, kw_only=True)
    """The layer from which styles are taken from the fine seed; none means the middle one."""
    truncation: float | None = field(default=None, kw_only=True)
    """As in ``Generate``."""


@dataclass(frozen=True)
class Invert(Request):
    """Find the latents that make given pictures."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]."""
    space: str = field(default="", kw_only=True)
    """Which latent space, for a system with several; empty means its first."""
    steps: int | None = field(default=None, kw_only=True)
    """Of the search; none means the system's own default."""


@dataclass(frozen=True)
class Edit(Request):
    """Change pictures, or new ones, as words say."""

    prompt: str = field(kw_only=True)
    """What to change; for latent arithmetic "red circle - red square + blue square"."""
    images: Float[Tensor, "n c h w"] | None = field(default=None, kw_only=True)
    """In [-1, 1]; none means new pictures."""
    strength: float = field(default=1.0, kw_only=True)
    """How far to go."""


@dataclass(frozen=True)
class Complete(Request):
    """Finish pictures of which only the top is kept."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]."""
    prompt: str | tuple[str, ...] = field(default="", kw_only=True)
    """What they show; several prompts are taken in turn, one a picture."""
    keep: float = field(default=0.5, kw_only=True)
    """Share of the height that is kept, from the top; rounded to whole rows of the model's tokens."""
    guidance: float | None = field(default=None, kw_only=True)
    """As in ``Generate``."""
    temperature: float | None = field(default=None, kw_only=True)
    """As in ``Generate``."""
    top_k: int | None = field(default=None, kw_only=True)
    """As in ``Generate``."""


@dataclass(frozen=True)
class Caption(Request):
    """Say what pictures show, one text a picture."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]."""
    temperature: float = field(default=0.0, kw_only=True)
    """How freely words are chosen: 1 as learned, 0 always the likeliest."""


@dataclass(frozen=True)
class Score(Request):
    """Say how well pictures and texts go together."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]."""
    texts: tuple[str, ...] = field(kw_only=True)
    """What is compared with every picture."""
    templates: tuple[str, ...] = field(default=("{}",), kw_only=True)
    """Sentences around each text, which stands in place of {}; their vectors are averaged (Radford et al.
    2021, section 3.1.4)."""


@dataclass(frozen=True)
class Imagine(Request):
    """Say how a picture of some words would look to a CLIP, without making it."""

    prompt: str | tuple[str, ...] = field(kw_only=True)
    """What it shows; several prompts are taken in turn."""
    guidance: float | None = field(default=None, kw_only=True)
    """How strongly to follow the prompt; 1 switches guidance off, none means the system's own default."""
    steps: int | None = field(default=None, kw_only=True)
    """Of the solver, for a diffusion; none means the system's own default."""


@dataclass(frozen=True)
class Progress:
    """How far a run has come, with what the picture would be if it stopped now."""

    done: float
    """From 0 to 1."""
    preview: Callable[[], Float[Tensor, "n c h w"]] | None = None
    """Call it to see; in [-1, 1]. It costs nothing until called."""


@dataclass(frozen=True)
class Images:
    """The pictures asked for."""

    pixels: Float[Tensor, "n c h w"]
    """In [-1, 1]."""
    seeds: tuple[int, ...] = ()
    captions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What the user should know about this answer: truncated prompts, ignored settings."""
    latents: Float[Tensor, "n ..."] | None = None
    """What they were made from, if that was asked for."""

    def _repr_png_(self) -> bytes | None:
        return grid(self.pixels)._repr_png_()


@dataclass(frozen=True)
class Video:
    """The moving pictures asked for."""

    pixels: Float[Tensor, "n f c h w"]
    """In [-1, 1]."""
    rate: float = 12.0
    """Frames a second."""
    seeds: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        return "".join(gif_tag(film, self.rate) for film in self.pixels)


@dataclass(frozen=True)
class Ranking:
    """How well each picture goes with each text."""

    scores: Float[Tensor, "n k"]
    """Cosines, in [-1, 1]."""
    shares: Float[Tensor, "n k"]
    """How the system spreads its belief over the texts, if one of them is right: a row sums to 1."""
    texts: tuple[str, ...]
    images: Float[Tensor, "n d"]
    """The pictures' unit vectors: what an index of many pictures keeps."""
    notes: tuple[str, ...] = ()

    def best(self, row: int) -> list[tuple[str, float, float]]:
        """The texts of a picture, the best first, each with its cosine and its share."""
        order = self.scores[row].argsort(descending=True).tolist()
        return [(self.texts[k], float(self.scores[row, k]), float(self.shares[row, k])) for k in order]


@dataclass(frozen=True)
class Text:
    """The words read, one text a picture."""

    texts: tuple[str, ...]
    confidence: tuple[float, ...]
    """Probability of each, by the reader's own judgement."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Embeddings:
    """Where pictures lie in a CLIP's space."""

    vectors: Float[Tensor, "n d"]
    """Of length 1."""
    captions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Result = Images | Video | Ranking | Embeddings | Text
Event = Progress | Result


def in_parts(
    serve: Callable[[Generate], Iterator[Event]], request: Generate, size: int, hears: frozenset[str]
) -> Iterator[Event]:
    """Serve a large request ``size`` pictures at a time; what comes out is the same.

    Raises ``UsageError`` for what makes no sense, and for what a system cannot follow (``System.hears``).
    """
    _check(request, hears)
    starts = range(0, request.count, size)
    answers: list[Images] = []
    for i, start in enumerate(starts):
        for event in serve(request.part(start, min(start + size, request.count))):
            if isinstance(event, Progress):
                yield Progress((i + event.done) / len(starts), event.preview)
            elif isinstance(event, Images):
                answers.append(event)
    yield Images(
        torch.cat([a.pixels for a in answers]),
        seeds=tuple(range(request.seed, request.seed + request.count)),
        captions=tuple(c for a in answers for c in a.captions),
        notes=tuple(dict.fromkeys(n for a in answers for n in a.notes)),
    )


def _check(request: Generate, hears: frozenset[str]) -> None:
    for name in ("count", "steps", "height", "width"):
        if (value := getattr(request, name)) is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}; leave it out for the system's own.")
    for name in ("prompt", "label"):
        if getattr(request, name) == ():
            raise UsageError(f"{name} is an empty tuple; give at least one, or leave it out.")
    if "caption" not in hears and (any(request.prompt) or request.negative):
        instead = "say what to show by its label" if "label" in hears else "leave the prompt out"
        raise UsageError(f"This model was trained without words; {instead}.")
    if "label" not in hears and request.label is not None:
        instead = "name the class in the prompt" if "caption" in hears else "leave the label out"
        raise UsageError(f"This model was trained without labels; {instead}.")
    for name in ("truncation", "temperature", "top_k"):
        if name not in hears and getattr(request, name) is not None:
            raise UsageError(f"This model has no {name}; leave it out.")
