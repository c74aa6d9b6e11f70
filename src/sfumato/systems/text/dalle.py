"""DALL-E: the words of a caption and the numbers of its picture, foretold in one stream.

Ramesh, Pavlov, Goh, Gray, Voss, Radford, Chen, Sutskever: Zero-Shot Text-to-Image Generation, ICML 2021,
arXiv 2102.12092. The first stage is a dVAE, a VQ-VAE or a VQ-GAN (``systems.autoencoders.vqvae``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from sfumato.core.autoregressive import choose, exact
from sfumato.core.generate import in_turn
from sfumato.core.request import Complete, Event, Generate, Images, Progress
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Dataset, Encoded, Facts, said_of
from sfumato.data.text import WordTokenizer, left_out, vocabulary_of
from sfumato.device import autocast
from sfumato.errors import DataError, UsageError
from sfumato.nn.causal import Cache, CausalConfig, Pattern, Stream
from sfumato.systems.autoencoders.vqvae import VQVAE, VQVAEConfig
from sfumato.systems.text.prompts import preview


@dataclass(frozen=True)
class DALLEConfig:
    """Words, first stage, transformer, and how one samples unless told otherwise."""

    height: int = 256
    """Pixels."""
    width: int = 256
    """Pixels."""
    vocabulary: tuple[str, ...] = ()
    """Words it knows; they follow the data."""
    length: int = 256
    """Words it can read; more are reported and cut."""
    first_stage: VQVAEConfig = VQVAEConfig()
    network: CausalConfig = CausalConfig()
    picture: float = 7.0
    """Weight of the picture's tokens in the loss, where the words' is 1; both are divided by their sum."""
    drop: float = 0.1
    """Share of captions withheld in training, so that guidance has something to guide away from."""
    optim: OptimConfig = OptimConfig(lr=4.5e-4, betas=(0.9, 0.96), weight_decay=0.045)
    temperature: float = 1.0
    top_k: int = 0
    guidance: float = 1.0
    chunk: int = 64
    """Pictures sampled at a time."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a picture's numbers."""
        factor = self.first_stage.network.factor
        return self.height // factor, self.width // factor


class DALLE(System[Generate | Complete]):
    """A causal transformer over words and the numbers that a frozen first stage makes of pictures."""

    tasks = (Generate, Complete)
    Config = DALLEConfig

    def __init__(self, config: DALLEConfig):
        super().__init__()
        self.config = config
        self.tokenizer = WordTokenizer(config.vocabulary, config.length)
        self.first_stage = VQVAE(replace(config.first_stage, adversarial=0.0)).requires_grad_(False)
        codes = config.first_stage.book.codes
        self.network = Stream(config.network, self.tokenizer.size, config.length, codes, config.grid)

    @classmethod
    def fit(cls, config: DALLEConfig, facts: Facts) -> DALLEConfig:
        return replace(
            config,
            height=facts.height,
            width=facts.width,
            vocabulary=facts.words or vocabulary_of(facts.classes),
            first_stage=VQVAE.fit(config.first_stage, facts),
        )

    @property
    def channels(self) -> int:
        return self.first_stage.channels

    def players(self) -> dict[str, Player]:
        return {"transformer": Player((self.network,), self.config.optim, self.network.ends)}

    def adopt(self, base: System[Any]) -> None:
        """Take over a trained first stage."""
        wanted = self.config.first_stage
        if not isinstance(base, VQVAE) or not _fits(base.config, wanted):
            raise DataError(
                f"DALL-E needs a trained first stage of its own shape, got a {type(base).__name__} that "
                "differs; train one with 'sfumato train vqvae' and the same settings."
            )
        mine = self.first_stage.state_dict().keys()
        self.first_stage.load_state_dict({k: v for k, v in base.state_dict().items() if k in mine})

    @torch.no_grad()
    def prepare(self, data: Dataset) -> Dataset:
        """Number every picture and every caption once."""
        codes, ids = [], []
        for rows in torch.arange(len(data)).split(256):
            batch = data.batch(rows)
            with autocast("auto", self.device):
                numbers = self.first_stage.tokens(batch["image"].to(self.device))
            codes.append(numbers.flatten(1).int().cpu())
            ids.append(self.tokenizer.encode(said_of(batch, data.facts)).tokens.int())
        return Encoded(data, {"codes": torch.cat(codes), "ids": torch.cat(ids)}, {})

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Section 2.2: the picture's cross-entropy counts seven times the words'; in nats a token."""
        c, network, codes, ids = self.config, self.network, batch["codes"].long(), batch["ids"].long()
        withheld = (batch.rng.uniform() < c.drop).to(ids.device)
        ids = ids.masked_fill(withheld[:, None], 0)
        words, picture = network(ids, codes).split((c.length, codes.shape[1]), dim=1)
        spoken = cross_entropy(words.flatten(0, 1), network.padded(ids).flatten())
        shown = cross_entropy(picture[..., -network.codes :].flatten(0, 1), codes.flatten())
        share = 1 / (1 + c.picture)
        loss = Loss.sum("transformer", words=share * spoken, picture=share * c.picture * shown)
        yield replace(loss, parts={"words": spoken.detach(), "picture": shown.detach()})

    def run(self, request: Generate | Complete) -> Iterator[Event]:
        if isinstance(request, Complete):
            return self._complete(request)
        c = self.config
        if (request.height or c.height, request.width or c.width) != (c.height, c.width):
            raise UsageError(
                f"This model makes pictures of {c.height} x {c.width} pixels; leave height and width out."
            )
        return in_parts(self._generate, request, c.chunk, self.hears)

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"caption", "temperature", "top_k"})

    def preview(self, count: int, seed: int) -> Generate:
        return preview(self.config.vocabulary, count, seed)

    @torch.no_grad()
    def _generate(self, request: Generate) -> Iterator[Event]:
        """Pictures of which nothing is known yet."""
        prompts = _prompts(request.prompt, request.count)
        ids, lost = self.tokenizer.encode(prompts)
        codes = torch.empty(request.count, 0, dtype=torch.long, device=self.device)
        scale = request.guided(self.config.guidance)
        for known in self._draw(ids, codes, request, scale):
            codes = known
            yield Progress(codes.shape[1] / self._cells, partial(self._so_far, codes))
        yield Images(self._so_far(codes), captions=prompts, notes=left_out(prompts, lost))

    @torch.no_grad()
    def _complete(self, request: Complete) -> Iterator[Event]:
        """Pictures whose first rows are known: nothing else is looked at, and they come back as given."""
        c, x, (rows, columns) = self.config, request.images, self.config.grid
        kept = round(request.keep * rows)
        if x.shape[1:] != (self.channels, c.height, c.width):
            given = " x ".join(map(str, x.shape[1:]))
            raise UsageError(
                f"This model completes pictures of {self.channels} x {c.height} x {c.width}, got {given}; "
                "scale and crop them."
            )
        if not 0 < kept < rows:
            raise UsageError(
                f"keep must leave 1 to {rows - 1} of the {rows} rows of tokens, got {request.keep:g}; "
                "0.5 keeps the top half."
            )
        prompts = _prompts(request.prompt, len(x))
        ids, lost = self.tokenizer.encode(prompts)
        scale, top = c.guidance if request.guidance is None else request.guidance, kept * c.height // rows
        first_stage, known, made = exact(self.first_stage), kept * columns, []
        starts = range(0, len(x), c.chunk)
        for i, start in enumerate(starts):
            part = slice(start, start + c.chunk)
            codes = first_stage.tokens(x[part, :, :top].to(self.device, torch.float32)).flatten(1)
            for so_far in self._draw(ids[part], codes, replace(request, seed=request.seed + start), scale):
                codes = so_far
                done = (codes.shape[1] - known) / (self._cells - known)
                yield Progress((i + done) / len(starts))
            made.append(self._so_far(codes).to(x))
        pixels = torch.cat([x[:, :, :top], torch.cat(made)[:, :, top:]], 2)
        seeds = tuple(range(request.seed, request.seed + len(x)))
        yield Images(pixels, seeds=seeds, captions=prompts, notes=left_out(prompts, lost))

    @property
    def _cells(self) -> int:
        rows, columns = self.config.grid
        return rows * columns

    @torch.no_grad()
    def _draw(
        self, ids: Int[Tensor, "b t"], codes: Int[Tensor, "b n"], request: Generate | Complete, scale: float
    ) -> Iterator[Int[Tensor, "b m"]]:
        """The numbers of pictures, row by row, each drawn given those before it."""
        c, network, count = self.config, exact(self.network), len(ids)
        temperature = c.temperature if request.temperature is None else request.temperature
        top_k = c.top_k if request.top_k is None else request.top_k
        chance = Rng.sampling(request.seed, count).normal(self._cells).double()
        chance = torch.special.ndtr(chance).to(self.device)
        texts = ids.to(self.device)
        if scale != 1:
            texts = torch.cat([texts, torch.zeros_like(texts)])
        cache = Cache(c.network, len(texts), c.length + self._cells, network.head.weight)
        for place in range(codes.shape[1], self._cells):
            both = codes if scale == 1 else codes.repeat(2, 1)
            logits = network(texts, both, cache)[:, -1, -network.codes :]
            if scale != 1:
                told, untold = logits.chunk(2)
                logits = untold + scale * (told - untold)
            codes = torch.cat([codes, choose(logits, chance[:, place], temperature, top_k)[:, None]], 1)
            if (place + 1) % c.grid[1] == 0:
                yield codes

    @torch.no_grad()
    def _so_far(self, codes: Int[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        """Pictures of whole rows of numbers; grey where none are known yet."""
        (rows, columns), known = self.config.grid, codes.shape[1]
        whole = torch.nn.functional.pad(codes, (0, self._cells - known)).unflatten(1, (rows, columns))
        pixels = self.first_stage.pictures(whole)
        pixels[:, :, known // columns * self.config.first_stage.network.factor :] = 0
        return pixels


def _prompts(given: str | tuple[str, ...], count: int) -> tuple[str, ...]:
    """One prompt a picture."""
    return tuple(in_turn((given,) if isinstance(given, str) else given, range(count)))


def _fits(trained: VQVAEConfig, wanted: VQVAEConfig) -> bool:
    """Whether one's weights and numbers mean the same to the other."""
    same = (trained.network, trained.likelihood) == (wanted.network, wanted.likelihood)
    return same and (type(trained.book), trained.book.codes) == (type(wanted.book), wanted.book.codes)


def _published(depth: int = 64) -> tuple[Pattern, ...]:
    """Which layers look along rows, along columns and around, as published (appendix B.1)."""
    axial: list[Pattern] = ["column" if i % 4 == 2 else "row" for i in range(depth - 1)]
    return (*axial, "conv")


_MUON = OptimConfig(kind="muon", lr=3e-3, betas=(0.9, 0.99), weight_decay=0.01, warmup=50, decay=0.4)
_STAGE = VQVAE.presets["laptop"].config
DALLE.presets = {
    "laptop": Preset(
        DALLEConfig(length=16, first_stage=_STAGE, network=CausalConfig(width=128, depth=5), optim=_MUON),
        data="one-shape",
        size=32,
        train=TrainConfig(steps=800, batch=64, ema=0.995),
        base=("vqvae", "laptop"),
    ),
    "paper": Preset(
        DALLEConfig(
            first_stage=VQVAE.presets["paper"].config,
            network=CausalConfig(width=62 * 64, depth=64, heads=62, patterns=_published()),
            drop=0.0,
        ),
        data="folder",
        size=256,
        train=TrainConfig(steps=430_000, batch=1024, ema=0.0),
        base=("vqvae", "paper"),
    ),
}
