"""Transformers that look back only: what a language model of words, of pictures or of both is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import relu

from sfumato.nn.attention import attention
from sfumato.nn.transformer import computing_dtype, normalised, split_heads

Pattern = Literal["dense", "row", "column", "conv"]
TOKEN_STD, PLACE_STD = 0.5, 0.1
"""Standard deviations of embeddings at first."""


@dataclass(frozen=True)
class CausalConfig:
    """The shape of a causal transformer."""

    width: int = 128
    depth: int = 6
    heads: int = 4
    growth: int = 4
    """How much wider the middle of each feed-forward layer is."""
    patterns: tuple[Pattern, ...] = ("dense",)
    """Which earlier places of the picture a layer looks at; taken in turn, from the first layer on."""
    kernel: int = 11
    """Side of the neighbourhood that "conv" looks at."""


class Cache:
    """Keys and values of the places read so far: what a further place needs of them."""

    def __init__(self, config: CausalConfig, batch: int, length: int, like: Tensor):
        """Room for ``length`` places, on the device and in the dtype of ``like``."""
        shape = (config.depth, batch, config.heads, length, config.width // config.heads)
        self.keys, self.values = (like.new_empty(shape) for _ in range(2))
        self.length = 0
        """Places read."""

    def add(
        self, layer: int, k: Float[Tensor, "b h l d"], v: Float[Tensor, "b h l d"]
    ) -> tuple[Float[Tensor, "b h s d"], Float[Tensor, "b h s d"]]:
        """Keep what one layer made of new places; all of that layer comes back."""
        end = self.length + k.shape[2]
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class Causal(nn.Module):
    """Layers in which every place sees itself and what stands before it.

    The last ``rows * columns`` places of the stream are a picture, row by row, in which a layer may see less
    (``look_back``). Norms have no parameters and queries and keys are normalised, as in ``nn.transformer``.
    """

    def __init__(self, config: CausalConfig, before: int, grid: tuple[int, int] = (0, 0)):
        """``before`` places stand before a picture of so many rows and columns."""
        super().__init__()
        self.config, self.before, self.grid = config, before, grid
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.depth))

    def forward(self, x: Float[Tensor, "b l d"], cache: Cache | None = None) -> Float[Tensor, "b l d"]:
        """States of the places of ``x``, which follow upon those in the cache; the cache then holds both."""
        start = 0 if cache is None else cache.length
        end = start + x.shape[1]
        masks = {pattern: self._mask(pattern, start, end).to(x) for pattern in set(self.config.patterns)}
        for i, block in enumerate(self.blocks):
            pattern = self.config.patterns[i % len(self.config.patterns)]
            x = block(x, masks[pattern], None if cache is None else functools.partial(cache.add, i))
        if cache is not None:
            cache.length = end
        return normalised(x)

    def _mask(self, pattern: Pattern, start: int, end: int) -> Float[Tensor, "l s"]:
        """What is added to the scores of some places with all up to the last of them."""
        allowed = look_back(pattern, self.before, *self.grid, self.config.kernel)[start:end, :end]
        return torch.zeros(allowed.shape).masked_fill_(~allowed, float("-inf"))


class _Block(nn.Module):
    def __init__(self, config: CausalConfig):
        super().__init__()
        width, self.heads = config.width, config.heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        self.feed = nn.Linear(width, config.growth * width)
        self.back = nn.Linear(config.growth * width, width)

    def forward(self, x: Tensor, mask: Tensor, keep: Callable[..., tuple[Tensor, Tensor]] | None) -> Tensor:
        q, k, v = split_heads(self.to_qkv(normalised(x)), 3, self.heads)
        q, k = normalised(q), normalised(k)
        if keep is not None:
            k, v = keep(k, v)
        x = x + self.to_out(attention(q, k, v, mask).transpose(1, 2).flatten(2))
        return x + self.back(relu(self.feed(normalised(x))).square())


@functools.lru_cache(maxsize=32)
def look_back(pattern: Pattern, before: int, rows: int, columns: int, kernel: int) -> Bool[Tensor, "l l"]:
    """Which places (columns) each place (rows) sees; a square of ``before + rows * columns``.

    All see themselves and, of the first ``before``, what is not later. Within the picture (Ramesh et al.
    2021, appendix B.1 and figure 11), row by row with no regard to its rims: "row" sees as far back as the
    place above, "column" the places above, "conv" those of the ``kernel`` by ``kernel`` places around it,
    "dense" everything before.
    """
    length, cells = before + rows * columns, rows * columns
    allowed = torch.ones(length, length, dtype=torch.bool).tril()
    place = torch.arange(cells)
    back = place[:, None] - place
    if pattern == "row":
        seen = back <= columns
    elif pattern == "column":
        seen = back % max(columns, 1) == 0
    elif pattern == "conv":
        half = kernel // 2
        above = -((half - back).div(max(columns, 1), rounding_mode="floor")).clamp(max=0)
        seen = (above <= half) & ((back - above * columns).abs() <= half)
    else:
        seen = torch.ones_like(back, dtype=torch.bool)
    allowed[before:, before:] &= seen
    return allowed


class Stream(nn.Module):
    """Words, then the numbers of a picture, in one stream, each foretold from all before it.

    Ramesh et al. 2021, section 2.2: the empty places of a text have tokens of their own, one for each place;
    places of the picture are told by their row and their column. Both kinds of token are one vocabulary, in
    which a place that foretells words cannot choose a number of the picture, nor the other way round.
    """

    def __init__(self, config: CausalConfig, words: int, length: int, codes: int, grid: tuple[int, int]):
        """A text has ``length`` places and ``words`` tokens, of which 0 is the empty place."""
        super().__init__()
        self.config, self.words, self.length, self.codes, self.grid = config, words, length, codes, grid
        width, (rows, columns) = config.width, grid
        self.word = embedding(words + length, width, TOKEN_STD)
        self.code = embedding(codes, width, TOKEN_STD)
        self.start = embedding(1, width, TOKEN_STD)
        self.place = embedding(length, width, PLACE_STD)
        self.row = embedding(rows, width, PLACE_STD)
        self.column = embedding(columns, width, PLACE_STD)
        self.trunk = Causal(config, length, grid)
        self.head = nn.Linear(width, words + length + codes)

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where tokens come in and go out."""
        return (self.word, self.code, self.start, self.place, self.row, self.column, self.head)

    def padded(self, ids: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
        """The same text with every empty place as the token of that place."""
        return torch.where(ids == 0, self.words + torch.arange(self.length, device=ids.device), ids)

    def forward(
        self, ids: Int[Tensor, "b t"], codes: Int[Tensor, "b n"], cache: Cache | None = None
    ) -> Float[Tensor, "b l v"]:
        """Logits of what follows upon every place not yet in the cache, in fp32.

        Place 0 foretells the first word, place ``length`` the first number of the picture. ``codes`` are as
        many numbers as are known. Of the vocabulary the numbers of the picture come last.
        """
        read = 0 if cache is None else cache.length
        x = self._embedded(ids, codes)[:, read:]
        x = self.trunk(x.to(computing_dtype(self.head.weight)), cache)
        logits = self.head(x).float()
        of_picture = torch.arange(logits.shape[2], device=x.device) >= self.words + self.length
        foretells = torch.arange(read, read + x.shape[1], device=x.device) >= self.length
        return logits.masked_fill(of_picture != foretells[:, None], float("-inf"))

    def _embedded(self, ids: Tensor, codes: Tensor) -> Tensor:
        """The stream as it is read: a start, the words, and all but the last number of a whole picture."""
        rows, columns = self.grid
        codes = codes[:, : rows * columns - 1]
        places = torch.arange(codes.shape[1], device=ids.device)
        start = self.start.weight.expand(len(ids), 1, -1)
        text = self.word(self.padded(ids)) + self.place.weight
        where = self.row(places // columns) + self.column(places % columns)
        return torch.cat([start, text, self.code(codes) + where], 1)


def embedding(count: int, width: int, std: float) -> nn.Embedding:
    """A table of ``count`` vectors, normal with this standard deviation."""
    table = nn.Embedding(count, width)
    nn.init.normal_(table.weight, std=std)
    return table
