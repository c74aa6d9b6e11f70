"""What GANs share that draw what a sentence says: prompts in, pictures of one size out."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from sfumato.core.generate import in_turn
from sfumato.core.request import Event, Generate, Images, Progress, Request
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.system import System
from sfumato.data.text import WordTokenizer, left_out
from sfumato.errors import UsageError
from sfumato.systems.text.prompts import preview


class TextGAN(System[Generate], abc.ABC):
    """A reader of words with a generator and a critic behind it."""

    tasks: ClassVar[tuple[type[Request], ...]] = (Generate,)
    needs = frozenset({"image", "caption"})
    config: Any
    """With ``height``, ``width``, ``text`` (a ``WordsConfig``) and ``chunk``."""
    tokenizer: WordTokenizer

    @abc.abstractmethod
    def painted(self, ids: Int[Tensor, "b l"], rng: Rng) -> Iterator[Progress | Tensor]:
        """Pictures (b, c, h, w) in [-1, 1] of captions as tokens, last of all."""

    def run(self, request: Generate) -> Iterator[Event]:
        """Make pictures of the prompts, each from its own noise."""
        c = self.config
        if (request.height or c.height, request.width or c.width) != (c.height, c.width):
            raise UsageError(
                f"This model makes pictures of {c.height} x {c.width} pixels; leave height and width out."
            )
        return in_parts(self._serve, request, c.chunk, self.hears)

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"caption"})

    def preview(self, count: int, seed: int) -> Generate:
        return preview(self.config.text.vocabulary, count, seed)

    @torch.no_grad()
    def _serve(self, request: Generate) -> Iterator[Event]:
        given = (request.prompt,) if isinstance(request.prompt, str) else request.prompt
        prompts = in_turn(given, range(request.count))
        ids, lost = (t.to(self.device) for t in self.tokenizer.encode(prompts))
        for made in self.painted(ids, Rng.sampling(request.seed, request.count)):
            if isinstance(made, Progress):
                yield made
            else:
                yield Images(made.float(), captions=tuple(prompts), notes=left_out(prompts, lost))
