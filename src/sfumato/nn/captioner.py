"""A network that says what it sees: a vision transformer, and words foretold after its tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sfumato.nn.causal import PLACE_STD, TOKEN_STD, Cache, Causal, CausalConfig, embedding
from sfumato.nn.transformer import computing_dtype
from sfumato.nn.vit import Vit, VitConfig


class Captioning(nn.Module):
    """One stream: the picture's tokens, a start, and the words, each foretold from all before it.

    Token 0 ends a text. The picture's tokens come from both directions within the vision transformer.
    """

    def __init__(self, vision: VitConfig, config: CausalConfig, words: int, length: int):
        """``words`` tokens, and texts of at most ``length`` of them."""
        super().__init__()
        rows, columns = vision.grid
        self.config, self.words, self.length, self.seen = config, words, length, rows * columns + 1
        self.vision_model = Vit(vision)
        self.enter = nn.Linear(vision.width, config.width)
        self.word = embedding(words + 1, config.width, TOKEN_STD)
        self.place = embedding(length + 1, config.width, PLACE_STD)
        self.trunk = Causal(config, self.seen + 1 + length)
        self.head = nn.Linear(config.width, words)

    @property
    def ends(self) -> tuple[nn.Module, ...]:
        """Where pictures and words come in, and where words go out."""
        return (*self.vision_model.ends, self.enter, self.word, self.place, self.head)

    def look(self, pixels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b s d"]:
        """The picture as the first tokens of the stream."""
        states, _ = self.vision_model(pixels.to(self.enter.weight.dtype))
        return self.enter(self.vision_model.post_layernorm(states))

    def forward(
        self, seen: Float[Tensor, "b s d"], ids: Int[Tensor, "b t"], cache: Cache | None = None
    ) -> Float[Tensor, "b k v"]:
        """Logits of what follows upon the start and upon every word not yet in the cache, in fp32."""
        read = 0 if cache is None else cache.length
        start = ids.new_full((len(ids), 1), self.words)
        said = torch.cat([start, ids], 1)
        words = self.word(said) + self.place.weight[: said.shape[1]]
        stream = torch.cat([seen, words.to(seen)], 1)[:, read:]
        states = self.trunk(stream.to(computing_dtype(self.head.weight)), cache)
        return self.head(states[:, max(0, self.seen - read) :]).float()
