"""Transformers: a denoiser over patches of a picture, and a reader of words."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import relu, silu

from sfumato.errors import UsageError
from sfumato.nn.attention import attention
from sfumato.nn.condition import Condition
from sfumato.nn.embed import LONGEST, Embedder, sinusoidal
from sfumato.nn.layers import zeroed

FARTHEST = 100.0
"""Captions are short: here RoFormer has 10,000, with which most numbers would hardly turn."""


@dataclass(frozen=True)
class DiTConfig:
    """The shape of a diffusion transformer."""

    channels: int = 4
    """Of what is denoised."""
    patch: int = 2
    """Side of the squares that become one token."""
    width: int = 128
    depth: int = 6
    heads: int = 4
    growth: int = 4
    """How much wider the middle of each feed-forward layer is."""
    clock_scale: float = 1.0
    """What the clock is multiplied with before its sinusoids, whose fastest has the period 2 pi."""
    tokens: int = 0
    """Width of ``Condition.tokens``; 0 reads none."""
    vector: int = 0
    """Width of ``Condition.vector``; 0 reads none."""
    beside: int = 0
    """Channels of ``Condition.spatial``, which is seen beside what is denoised; 0 sees none."""


class DiT(nn.Module):
    """Diffusion transformer (Peebles & Xie 2023) whose picture tokens look at each other and at the words.

    Time and ``Condition.vector`` scale and shift every layer (adaLN-Zero, section 3.2). Words are keys and
    values of the same attention in which the picture is (joint attention, as in Nichol et al. 2021, GLIDE,
    section 2.3). Queries and keys are normalised (Dehghani et al. 2023, section 2), which keeps Muon's large
    steps stable; feed-forward layers square their rectifier (So et al. 2021). Any height and width that are
    multiples of ``patch`` will do.
    """

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        width, inside = config.width, config.channels * config.patch**2
        self.enter = nn.Linear(inside + config.beside * config.patch**2, width)
        self.time = Embedder(width, width)
        self.vector = Embedder(config.vector, width) if config.vector else None
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.leave = zeroed(nn.Linear(width, inside))

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where data and conditions come in and data goes out."""
        inner = (block.get_submodule("modulation") for block in self.blocks)
        return (self.enter, self.leave, self.modulation, *inner)

    def forward(
        self, x: Float[Tensor, "b c h w"], clock: Float[Tensor, " b"], cond: Condition
    ) -> Float[Tensor, "b c h w"]:
        p, (rows, columns) = (
            self.config.patch,
            (x.shape[2] // self.config.patch, x.shape[3] // self.config.patch),
        )
        told = self.time(sinusoidal(clock * self.config.clock_scale, self.config.width))
        if self.vector is not None and cond.vector is not None:
            told = told + self.vector(cond.vector)
        told = silu(told)
        h = self.enter(_patches(x if cond.spatial is None else torch.cat([x, cond.spatial], 1), p))
        h = h + _positions(rows, columns, self.config.width).to(h)
        for block in self.blocks:
            h = block(h, told, cond.tokens)
        shift, scale = self.modulation(told)[:, None].chunk(2, -1)
        h = self.leave(normalised(h) * (1 + scale) + shift)
        return (
            h.unflatten(1, (rows, columns))
            .unflatten(3, (-1, p, p))
            .permute(0, 3, 1, 4, 2, 5)
            .flatten(4)
            .flatten(2, 3)
        )


class _Block(nn.Module):
    def __init__(self, config: DiTConfig):
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.words = nn.Linear(config.tokens, 2 * width) if config.tokens else None
        self.to_out = nn.Linear(width, width)
        self.feed = nn.Linear(width, config.growth * width)
        self.back = nn.Linear(config.growth * width, width)
        self.modulation = zeroed(nn.Linear(width, 6 * width))

    def forward(
        self, x: Float[Tensor, "b n d"], told: Float[Tensor, "b d"], tokens: Float[Tensor, "b l e"] | None
    ) -> Float[Tensor, "b n d"]:
        shift, scale, gate, shift2, scale2, gate2 = self.modulation(told)[:, None].chunk(6, -1)
        q, k, v = split_heads(self.to_qkv(normalised(x) * (1 + scale) + shift), 3, self.heads)
        if self.words is not None and tokens is not None:
            more_k, more_v = split_heads(self.words(tokens), 2, self.heads)
            k, v = torch.cat([k, more_k], 2), torch.cat([v, more_v], 2)
        seen = attention(normalised(q), normalised(k), v).transpose(1, 2).flatten(2)
        x = x + gate * self.to_out(seen)
        h = relu(self.feed(normalised(x) * (1 + scale2) + shift2)).square()
        return x + gate2 * self.back(h)


@dataclass(frozen=True)
class WordsConfig:
    """The shape of a text tower over whole words, trained together with what it serves."""

    vocabulary: tuple[str, ...] = ()
    length: int = 40
    """Words it can read; more are reported and cut."""
    width: int = 128
    depth: int = 2
    heads: int = 4
    rotary: bool = False
    """Whether words see from the start how far they are from each other, by turned queries and keys."""


class Words(nn.Module):
    """A small bidirectional transformer over words (as the BERT of Rombach et al. 2022, section 4.3.1).

    Two rows of the vocabulary's embedding are its own: 0 for the empty place, 1 for an unknown word. Empty
    places are tokens like any other, so what is read does not depend on the batch.
    """

    def __init__(self, config: WordsConfig):
        super().__init__()
        self.config = config
        if config.rotary and config.width // config.heads % 2:
            raise UsageError(
                f"Rotary heads have an even width, got {config.width // config.heads}; change width or heads."
            )
        self.embedding = nn.Embedding(len(config.vocabulary) + 2, config.width)
        self.position = nn.Parameter(torch.randn(config.length, config.width) * 0.02)
        self.blocks = nn.ModuleList(ReadingBlock(config.width, config.heads) for _ in range(config.depth))
        nn.init.normal_(self.embedding.weight, std=0.5)

    def forward(self, ids: Int[Tensor, "b l"]) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b d"]]:
        """One vector a place, and their mean over the places that hold a word."""
        x = (self.embedding(ids) + self.position).to(computing_dtype(self.embedding.weight))
        c = self.config
        turns = _turns(c.length, c.width // c.heads // 2).to(x) if c.rotary else None
        for block in self.blocks:
            x = block(x, turns)
        x = normalised(x)
        held = (ids > 0)[..., None].to(x)
        return x, (x * held).sum(1) / held.sum(1).clamp(min=1)


class ReadingBlock(nn.Module):
    """Every token looks at all, then thinks for itself."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        self.feed = nn.Linear(width, 4 * width)
        self.back = nn.Linear(4 * width, width)

    def forward(
        self, x: Float[Tensor, "b l d"], turns: Float[Tensor, "2 l f"] | None = None
    ) -> Float[Tensor, "b l d"]:
        """``turns`` are the cosines and sines by which the queries and keys of every place are turned."""
        q, k, v = split_heads(self.to_qkv(normalised(x)), 3, self.heads)
        q, k = normalised(q), normalised(k)
        if turns is not None:
            q, k = turned(q, turns), turned(k, turns)
        x = x + self.to_out(attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.back(relu(self.feed(normalised(x))).square())


def turned(x: Float[Tensor, "b h l d"], turns: Float[Tensor, "2 l f"]) -> Float[Tensor, "b h l d"]:
    """Numbers k and k + d/2 of each token as a point in the plane, turned by the angle of its place, so that
    products of tokens depend on their distance (Su et al. 2021, RoFormer, arXiv 2104.09864, eq. 34)."""
    (cosine, sine), (a, b) = turns, x.chunk(2, -1)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], -1)


def split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(b, l, parts * heads * d) as ``parts`` tensors (b, heads, l, d)."""
    return x.unflatten(2, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind()


def computing_dtype(weight: Tensor) -> torch.dtype:
    """The dtype of matrix products with ``weight``, which autocast may lower."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def normalised(x: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the last axis, in x's own dtype (autocast would answer in fp32)."""
    with torch.autocast(x.device.type, enabled=False):
        return nn.functional.layer_norm(x, x.shape[-1:])


def _patches(x: Tensor, p: int) -> Tensor:
    return x.unflatten(3, (-1, p)).unflatten(2, (-1, p)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


@functools.lru_cache(maxsize=8)
def _turns(length: int, frequencies: int) -> Float[Tensor, "2 l f"]:
    """Cosines and sines of every place; the slowest turn takes ``FARTHEST`` times as long as the fastest."""
    angles = _angles(length, frequencies, FARTHEST)
    return torch.stack([angles.cos(), angles.sin()])


@functools.lru_cache(maxsize=8)
def _positions(rows: int, columns: int, width: int) -> Tensor:
    """Sines and cosines of row and column, a quarter of the width each; (1, n, width)."""
    y, x = (_angles(n, width // 4, LONGEST) for n in (rows, columns))
    grid = torch.cat(
        [
            torch.cat([y.sin(), y.cos()], 1)[:, None].expand(-1, columns, -1),
            torch.cat([x.sin(), x.cos()], 1)[None].expand(rows, -1, -1),
        ],
        -1,
    )
    return grid.flatten(0, 1)[None]


def _angles(places: int, frequencies: int, longest: float) -> Float[Tensor, "n f"]:
    """Of every place at frequencies that fall from 1 towards 1/longest."""
    frequency = torch.exp(-math.log(longest) * torch.arange(frequencies) / frequencies)
    return torch.arange(places)[:, None] * frequency
