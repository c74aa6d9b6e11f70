"""T5: a language learned from texts alone, by filling in what was left out of them.

Raffel, Shazeer, Roberts, Lee, Narang, Matena, Zhou, Li, Liu: Exploring the Limits of Transfer Learning with a
Unified Text-to-Text Transformer, JMLR 2020, arXiv 1910.10683. Imagen reads its prompts with the frozen
encoder; transformers' folders of T5 are this system.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from sfumato.compat.part import Weights, fill
from sfumato.compat.t5 import ENCODER, WHOLE, T5Folder
from sfumato.core.request import Event, Request
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Dataset, Encoded, Facts
from sfumato.data.unigram import END, PAD, UnigramTokenizer
from sfumato.errors import UsageError
from sfumato.nn.t5 import T5Encoder, T5Network, T5Shape

PART = 512
"""Texts encoded at a time before training."""
IGNORED = -100
"""Cross-entropy's own mark for what it must not count."""


@dataclass(frozen=True)
class T5Config:
    """The network, its tokenizer, what is left out of texts, and how it learns."""

    network: T5Shape = T5Shape()
    tokenizer: UnigramTokenizer = UnigramTokenizer()
    sentinels: int = 100
    """Marks at the end of the vocabulary that stand for what was left out."""
    density: float = 0.15
    """Share of the tokens of a text that are left out (section 3.3.4)."""
    span: float = 3.0
    """Mean length of a stretch that is left out."""
    whole: bool = True
    """Whether the writing half is there; a public encoder comes without, and cannot learn."""
    optim: OptimConfig = OptimConfig(lr=1e-3, warmup=1000)


class T5(System[Request]):
    """A reader and a writer of texts; others read with it."""

    needs = frozenset({"caption"})
    Config = T5Config
    pipelines = (ENCODER, WHOLE)

    def __init__(self, config: T5Config):
        super().__init__()
        self.config = config
        self.network: T5Encoder = (T5Network if config.whole else T5Encoder)(config.network)

    @classmethod
    def fit(cls, config: T5Config, facts: Facts) -> T5Config:
        """Whole words are its pieces, and the vocabulary is as large as it must be."""
        tokenizer = UnigramTokenizer.of(facts.words or ("a",), config.tokenizer.length)
        size = len(tokenizer.pieces) + config.sentinels
        return replace(config, tokenizer=tokenizer, network=replace(config.network, vocabulary=size))

    @property
    def channels(self) -> int:
        """Of the pictures that come with texts, at which it never looks."""
        return 3

    def players(self) -> dict[str, Player]:
        return {"language": Player((self.network,), self.config.optim)} if self.config.whole else {}

    @torch.no_grad()
    def prepare(self, data: Dataset) -> Dataset:
        """Number the words of all texts once."""
        parts = torch.arange(len(data)).split(PART)
        ids = [self.config.tokenizer.encode(data.batch(rows)["caption"]).tokens for rows in parts]
        return Encoded(data, {"ids": torch.cat(ids)}, {})

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Section 3.1.4: what was left out is written, each stretch behind its mark."""
        assert isinstance(self.network, T5Network)
        c, seeds = self.config, batch.rng.integers(0, 2**31).tolist()
        rows = [[token for token in row if token != PAD] for row in batch["ids"].tolist()]
        pairs = [corrupted(row, seed, c) for row, seed in zip(rows, seeds, strict=True)]
        asked, answer = (batched(side, self.device) for side in zip(*pairs, strict=True))
        before = pad(answer[:, :-1], (1, 0), value=PAD)
        logits = self.network.write(asked, before).float()
        told = torch.where(answer == PAD, IGNORED, answer)
        yield Loss.sum(
            "language", nats=cross_entropy(logits.flatten(0, 1), told.flatten(), ignore_index=IGNORED)
        )

    def run(self, request: Request) -> Iterator[Event]:
        raise UsageError(
            "A T5 answers no requests; others read with it: give it to 'train imagen' as --base."
        )

    @classmethod
    def from_diffusers(cls, folder: Path) -> T5:
        """A folder of transformers' T5, or of its encoder alone."""
        found = T5Folder.read(folder)
        marks = max(0, found.shape.vocabulary - len(found.tokenizer.pieces))
        with torch.device("meta"):
            system = cls(T5Config(found.shape, found.tokenizer, marks or 100, whole=found.whole))
        fill(system.network, found.weights)
        return system

    def to_diffusers(self, folder: Path) -> None:
        """A folder that transformers opens."""
        c = self.config
        T5Folder(c.network, c.tokenizer, Weights(self.network.state_dict()), c.whole).write(folder)


def corrupted(row: Sequence[int], seed: int, config: T5Config) -> tuple[list[int], list[int]]:
    """A text with stretches left out, and the stretches, each in the other's place behind a mark of its own.

    The marks are the last numbers of the vocabulary, falling. Both texts end in ``END``.
    """
    chance = random.Random(seed)
    words = [token for token in row if token != END]
    out = min(max(1, round(len(words) * config.density)), len(words) - 1)
    if out < 1:
        return [*words, END], [config.network.vocabulary - 1, END]
    spans = max(1, min(round(out / config.span), out, len(words) - out, config.sentinels - 1))
    gone, kept = _cut(out, spans, chance), _cut(len(words) - out, spans, chance)
    begins = chance.random() < 0.5  # with a stretch that is left out, or one that is kept
    asked: list[int] = []
    answer: list[int] = []
    at = 0
    for i in range(spans):
        mark = config.network.vocabulary - 1 - i
        for left in (begins, not begins):
            length = gone[i] if left else kept[i]
            part, at = words[at : at + length], at + length
            if left:
                asked.append(mark)
                answer += [mark, *part]
            else:
                asked += part
    return [*asked, END], [*answer, END]


def _cut(total: int, parts: int, chance: random.Random) -> list[int]:
    """A number as a sum of so many, each at least 1, all ways alike."""
    edges = [0, *sorted(chance.sample(range(1, total), parts - 1)), total]
    return [b - a for a, b in pairwise(edges)]


def batched(rows: Sequence[Sequence[int]], device: torch.device) -> Int[Tensor, "b l"]:
    """Texts of different lengths as one tensor, filled up with ``PAD``."""
    tensors = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=PAD).to(device)


LAPTOP = T5Shape(width=96, head_width=24, hidden=256, layers=4, decoder_layers=2, heads=4, farthest=32)
_MUON = OptimConfig(kind="muon", lr=2e-3, betas=(0.9, 0.98), warmup=50, decay=0.4)
T5.presets = {
    "laptop": Preset(
        T5Config(LAPTOP, UnigramTokenizer(length=48), 16, density=0.25, span=2.0, optim=_MUON),
        data="shape-stories",
        size=32,
        train=TrainConfig(steps=1200, batch=128, ema=0.99),
    ),
    "paper": Preset(T5Config(), data="folder", size=64, train=TrainConfig(steps=524_288, batch=128, ema=0.0)),
}
