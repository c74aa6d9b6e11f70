"""What a system answers: progress on the way, then one result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from jaxtyping import Float
from torch import Tensor

from sfumato.images import gif_tag, grid


class Brief:
    """A dataclass that says of its tensors their shapes alone, so that an answer can be printed."""

    def __repr__(self) -> str:
        told = ((f.name, getattr(self, f.name)) for f in fields(self) if f.repr)  # type: ignore[arg-type]
        parts = (f"{name}={_shape(v) if isinstance(v, Tensor) else repr(v)}" for name, v in told)
        return f"{type(self).__name__}({', '.join(parts)})"


def _shape(tensor: Tensor) -> str:
    return f"<{' x '.join(map(str, tensor.shape))}>"


@dataclass(frozen=True)
class Progress:
    """How far a run has come, with what the picture would be if it stopped now."""

    done: float
    """From 0 to 1."""
    preview: Callable[[], Float[Tensor, "n c h w"]] | None = None
    """Call it to see; in [-1, 1]. It costs nothing until called."""


@dataclass(frozen=True, repr=False)
class Images(Brief):
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


@dataclass(frozen=True, repr=False)
class Video(Brief):
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
class Text:
    """The words read, one text a picture."""

    texts: tuple[str, ...]
    confidence: tuple[float, ...]
    """Probability of each, by the reader's own judgement."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class Ranking(Brief):
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


@dataclass(frozen=True, repr=False)
class Embeddings(Brief):
    """Where pictures lie in a CLIP's space."""

    vectors: Float[Tensor, "n d"]
    """Of length 1."""
    captions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Result = Images | Video | Text | Ranking | Embeddings
Event = Progress | Result
