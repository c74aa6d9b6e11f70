"""What a user may ask of a system; what it answers stands in ``core.result``.

A request is at once a command, an HTTP body and a form: its fields and their one-line descriptions are
what the user sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from sfumato.core.generate import Generate, Request
from sfumato.core.latent import Way
from sfumato.core.result import Embeddings, Event, Images, Progress, Ranking, Result, Text, Video
from sfumato.data.boxes import Box
from sfumato.errors import UsageError

__all__ = [
    "Branch",
    "Caption",
    "Complete",
    "Dream",
    "Edit",
    "Embeddings",
    "Event",
    "Generate",
    "Images",
    "Imagine",
    "Interpolate",
    "Invert",
    "Layout",
    "Letters",
    "Mix",
    "Progress",
    "Ranking",
    "Read",
    "Reconstruct",
    "Request",
    "Result",
    "Score",
    "Stylize",
    "Text",
    "TextDiff",
    "Translate",
    "Upscale",
    "Vary",
    "Video",
    "Walk",
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
class Letters(Request):
    """Draw characters in other fonts."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """The characters in the font that the system starts from, in [-1, 1]."""
    font: int | str | tuple[int | str, ...] = field(default=0, kw_only=True)
    """In which font, by number or by name; several are taken in turn, one a character."""
    towards: int | str | tuple[int | str, ...] | None = field(default=None, kw_only=True)
    """A second font to mix in, likewise."""
    share: float | tuple[float, ...] = field(default=0.0, kw_only=True)
    """How much of the second font: 0 none, 1 nothing but it; several are taken in turn."""


@dataclass(frozen=True)
class Vary(Request):
    """Make pictures that are like given ones, and not the same: ``count`` of them, of the given ones in
    turn."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]."""
    strength: float = field(default=0.7, kw_only=True)
    """How far to stray, above 0 (hardly) to 1 (nothing of the given picture is left)."""
    prompt: str | tuple[str, ...] = field(default="", kw_only=True)
    """What to show; several prompts are taken in turn, one a picture."""
    negative: str = field(default="", kw_only=True)
    """What to avoid."""
    steps: int | None = field(default=None, kw_only=True)
    """Of the whole way from noise, of which ``strength`` is walked; none means the system's own default."""
    guidance: float | None = field(default=None, kw_only=True)
    """As in ``Generate``."""
    solver: str | None = field(default=None, kw_only=True)
    """As in ``Generate``."""


@dataclass(frozen=True)
class Upscale(Request):
    """Make pictures larger, with detail that was not there."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]."""
    prompt: str = field(default="", kw_only=True)
    """What the pictures show, for a system that reads."""
    negative: str = field(default="", kw_only=True)
    """What to avoid, for a system that reads."""
    noise: int | None = field(default=None, kw_only=True)
    """How much noise to take the given picture for, for a system that can be told: 0 none, more to invent
    more; none means the system's own default."""
    steps: int | None = field(default=None, kw_only=True)
    """As in ``Generate``."""
    guidance: float | None = field(default=None, kw_only=True)
    """As in ``Generate``."""


@dataclass(frozen=True)
class Layout(Request):
    """Make pictures in which given things stand in given boxes."""

    layouts: tuple[tuple[Box, ...], ...] = field(kw_only=True)
    """The things and where they stand; several layouts are taken in turn, one a picture."""
    steps: int | None = field(default=None, kw_only=True)
    """As in ``Generate``."""
    guidance: float | None = field(default=None, kw_only=True)
    """How closely to keep to the boxes; 1 switches guidance off."""


@dataclass(frozen=True)
class Stylize(Request):
    """Paint pictures anew in the style of others."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """What to paint; in [-1, 1]."""
    styles: tuple[Float[Tensor, "_ _ _"], ...] = field(default=(), kw_only=True)
    """Pictures to take the style from, each of any size, in [-1, 1]; none for a system that learned one."""
    weights: tuple[float, ...] = field(default=(), kw_only=True)
    """How much each style counts, in any unit; empty means that all count the same."""
    masks: Float[Tensor, "s 1 h w"] | None = field(default=None, kw_only=True)
    """One for each style, of the pictures' size: 1 where it applies; none means everywhere."""
    strength: float = field(default=1.0, kw_only=True)
    """How far to go: 0 keeps the picture, 1 is the system's own measure of style."""
    keep_colour: bool = field(default=False, kw_only=True)
    """Whether the colours stay those of the picture."""
    style_scale: float = field(default=1.0, kw_only=True)
    """Size of the styles' strokes, as a multiple of what they are."""
    start: Literal["content", "noise"] = field(default="content", kw_only=True)
    """Where a search sets out from; other systems have no such choice."""
    steps: int | None = field(default=None, kw_only=True)
    """Of a search; none means the system's own default."""

    def shares(self) -> tuple[float, ...]:
        """How much each style counts, together 1.

        Raises ``UsageError`` if there are not as many weights as styles, or not all are 0 or more with one
        above 0.
        """
        weights = self.weights or (1.0,) * len(self.styles)
        if len(weights) != len(self.styles):
            raise UsageError(
                f"There are {len(weights)} weights for {len(self.styles)} styles; give one for each, or none."
            )
        total = sum(weights)
        if weights and not (min(weights) >= 0 and 0 < total < float("inf")):
            raise UsageError(
                f"Weights of styles are 0 or more and not all 0, got {weights}; give such as 0.7 0.3."
            )
        return tuple(weight / total for weight in weights)


@dataclass(frozen=True)
class Dream(Request):
    """Change pictures so that a network sees more of what it sees in them."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]."""
    layers: tuple[str, ...] = field(default=(), kw_only=True)
    """Whose activity grows; empty means the system's own."""
    channel: int | None = field(default=None, kw_only=True)
    """Of these layers alone; none means all."""
    label: int | str | None = field(default=None, kw_only=True)
    """A class to be seen, in place of layers."""
    guide: Float[Tensor, "_ _ _"] | None = field(default=None, kw_only=True)
    """A picture of any size, in [-1, 1], whose features are sought."""
    octaves: int | None = field(default=None, kw_only=True)
    """Sizes at which it dreams, the smallest first; none means the system's own default."""
    steps: int | None = field(default=None, kw_only=True)
    """At each size; none means the system's own default."""
    jitter: int | None = field(default=None, kw_only=True)
    """Most pixels by which the picture is shifted at each step; none means the system's own default."""
    frames: int = field(default=0, kw_only=True)
    """Of a film that falls into the picture, dreaming; 0 for a picture."""


@dataclass(frozen=True)
class Read(Request):
    """Read the words that pictures show, one a picture."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]; dark letters on light paper."""
    beam: int = field(default=1, kw_only=True)
    """Readings that are followed at once, of which the likeliest wins."""


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
    mask: Float[Tensor, "m 1 i j"] | None = field(default=None, kw_only=True)
    """1 where we may paint, 0 where the picture stays as it is; none means everywhere."""
    negative: str = field(default="", kw_only=True)
    """What to avoid."""
    steps: int | None = field(default=None, kw_only=True)
    """As in ``Generate``."""
    guidance: float | None = field(default=None, kw_only=True)
    """As in ``Generate``."""
    keep: bool = field(default=True, kw_only=True)
    """Whether pixels outside the mask are put back as they were; else they come out of the autoencoder."""


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
    prior: str | None = field(default=None, kw_only=True)
    """As in ``Generate``."""


@dataclass(frozen=True)
class Interpolate(Request):
    """Turn pictures into one another by what they show: between their embeddings, and between the noises that
    make them."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """Two or more, in [-1, 1]."""
    frames: int = field(default=8, kw_only=True)
    """Steps from one picture to the next."""
    noise: Literal["between", "fixed"] = field(default="between", kw_only=True)
    """The noise on the way: between those of the pictures, so that they are met, or one for all, from the
    seed."""
    steps: int | None = field(default=None, kw_only=True)
    """As in ``Generate``."""
    guidance: float | None = field(default=None, kw_only=True)
    """How strongly to follow the embeddings; none, like 1, is no guidance, so that pictures are met."""


@dataclass(frozen=True)
class TextDiff(Request):
    """Change pictures by the difference between two texts."""

    images: Float[Tensor, "n c h w"] = field(kw_only=True)
    """In [-1, 1]."""
    source: str = field(kw_only=True)
    """What they show."""
    target: str = field(kw_only=True)
    """What they are to show."""
    theta: float = field(default=0.5, kw_only=True)
    """How far to go, from 0 (nothing changes) to 1 (nothing of the picture's embedding is left)."""
    steps: int | None = field(default=None, kw_only=True)
    """As in ``Generate``."""
    guidance: float | None = field(default=None, kw_only=True)
    """How strongly to follow the embedding; none, like 1, switches guidance off."""
