"""DALL-E 3's captioner: learns from few pictures with careful captions, and describes all the others anew.

Betker, Goh, Jing, Brooks, Wang, Li, Ouyang, Zhuang, Lee, Guo, Manassra, Dhariwal, Chu, Jiao, Ramesh:
Improving Image Generation with Better Captions, OpenAI 2023, section 2. A generator trained on such captions
(95 %, the rest as they were) follows words better than one trained on alt text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from sfumato.core.autoregressive import choose, exact
from sfumato.core.request import Caption, Event, Progress, Text
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.data.text import PAD, UNKNOWN, WordTokenizer
from sfumato.errors import DataError, UsageError
from sfumato.nn.captioner import Captioning
from sfumato.nn.causal import Cache, CausalConfig
from sfumato.nn.vit import VitConfig
from sfumato.systems.text.clip import CLIP


@dataclass(frozen=True)
class CaptionerConfig:
    """Eyes, words, and how they learn."""

    vision: VitConfig = VitConfig()
    """``channels`` and ``size`` follow the data."""
    network: CausalConfig = CausalConfig()
    vocabulary: tuple[str, ...] = ()
    """Words it can say; they follow the data."""
    length: int = 40
    """Words of its longest text."""
    optim: OptimConfig = OptimConfig(lr=1e-4)
    chunk: int = 64
    """Pictures described at a time."""


class Captioner(System[Caption]):
    """A vision transformer whose tokens a causal transformer continues with words."""

    tasks = (Caption,)
    needs = frozenset({"image", "caption"})
    Config = CaptionerConfig

    def __init__(self, config: CaptionerConfig):
        super().__init__()
        self.config = config
        self.tokenizer = WordTokenizer(config.vocabulary, config.length)
        self.network = Captioning(config.vision, config.network, self.tokenizer.size, config.length)

    @classmethod
    def fit(cls, config: CaptionerConfig, facts: Facts) -> CaptionerConfig:
        vision = replace(config.vision, channels=facts.channels, size=(facts.height, facts.width))
        _ = vision.grid
        return replace(config, vision=vision, vocabulary=facts.words)

    @property
    def channels(self) -> int:
        return self.config.vision.channels

    def players(self) -> dict[str, Player]:
        return {"captioner": Player((self.network,), self.config.optim, self.network.ends)}

    def adopt(self, base: System[Any]) -> None:
        """Begin with the eyes of a CLIP."""
        if not isinstance(base, CLIP) or base.config.network.vision != self.config.vision:
            raise DataError(
                f"The captioner begins with the eyes of a CLIP of its own shape, got a {type(base).__name__} "
                "that differs; train one with 'sfumato train clip' and the same settings."
            )
        self.network.vision_model.load_state_dict(base.network.vision_model.state_dict())

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """How badly the words of the captions, and their ends, were foretold; in nats a word."""
        ids = self.tokenizer.encode(batch["caption"]).tokens.to(self.device)
        logits = self.network(self.network.look(batch["image"]), ids)
        targets, counts = ends_marked(ids)
        each = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
        yield Loss.sum("captioner", words=(each * counts).sum() / counts.sum())

    @torch.no_grad()
    def run(self, request: Caption) -> Iterator[Event]:
        """Describe every picture, word by word."""
        images, c = request.images, self.config
        wanted = (c.vision.channels, *c.vision.size)
        if tuple(images.shape[1:]) != wanted:
            sizes = (" x ".join(map(str, size)) for size in (wanted, images.shape[1:]))
            raise UsageError(
                "This model describes pictures of {}, got {}; scale and crop them.".format(*sizes)
            )
        network, texts, confidence = exact(self.network), list[str](), list[float]()
        starts = range(0, len(images), c.chunk)
        for i, start in enumerate(starts):
            part = images[start : start + c.chunk].to(self.device)
            rng = Rng.sampling(request.seed + start, len(part))
            ids, sure = _said(network, part, rng, request.temperature)
            texts += [written(text) for text in self.tokenizer.decode(ids)]
            confidence += sure.tolist()
            yield Progress((i + 1) / len(starts))
        yield Text(tuple(texts), tuple(confidence))


def _said(
    network: Captioning, images: Tensor, rng: Rng, temperature: float
) -> tuple[Int[Tensor, "b t"], Float[Tensor, " b"]]:
    """The words for each picture, and the geometric mean of their probabilities."""
    count, seen = len(images), network.look(images)
    chance = torch.zeros(network.length + 1, count, dtype=torch.float64)
    if temperature > 0:
        chance = torch.special.ndtr(rng.normal(network.length + 1).double()).T
    cache = Cache(network.config, count, network.seen + 1 + network.length, seen)
    ids = torch.zeros(count, 0, dtype=torch.long, device=images.device)
    speaking = torch.ones(count, device=images.device)
    total, words = torch.zeros_like(speaking), torch.zeros_like(speaking)
    for place in range(network.length):
        logits = network(seen, ids, cache)[:, -1]
        logits[:, UNKNOWN] = float("-inf")
        chosen = choose(logits, chance[place].to(images.device), temperature)
        chosen = torch.where(speaking > 0, chosen, PAD)
        total += speaking * logits.log_softmax(1).gather(1, chosen[:, None])[:, 0]
        words += speaking
        speaking = speaking * (chosen != PAD)
        ids = torch.cat([ids, chosen[:, None]], 1)
        if not speaking.any():
            break
    return ids, (total / words).exp()


def ends_marked(ids: Int[Tensor, "b t"]) -> tuple[Int[Tensor, "b u"], Float[Tensor, "b u"]]:
    """What is to be foretold, the end of every text too, and which places count: those up to its end.

    >>> ends_marked(torch.tensor([[5, 6, 0], [7, 8, 9]]))[1].tolist()
    [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    """
    targets = torch.nn.functional.pad(ids, (0, 1), value=PAD)
    before = torch.nn.functional.pad(ids, (1, 0), value=UNKNOWN)
    return targets, (before != PAD).float()


def written(text: str) -> str:
    """Words as one writes them: no space before a mark.

    >>> written("a red circle , and a star .")
    'a red circle, and a star.'
    """
    return text.replace(" ,", ",").replace(" .", ".")


_MUON = OptimConfig(kind="muon", lr=3e-3, betas=(0.9, 0.99), weight_decay=0.05, warmup=50, decay=0.5)
_EYES = VitConfig(size=(32, 32), patch=4, width=96, layers=3, heads=4, hidden=384, activation="gelu")
# "shapes" has the eyes of clip's laptop preset: --base runs/clip-laptop lets it begin with them.
Captioner.presets = {
    "laptop": Preset(
        CaptionerConfig(_EYES, CausalConfig(width=96, depth=2), length=16, optim=_MUON),
        data="described-shape",
        size=32,
        train=TrainConfig(steps=600, batch=32, ema=0.99),
    ),
    "shapes": Preset(
        CaptionerConfig(
            CLIP.presets["laptop"].config.network.vision, CausalConfig(width=128, depth=3), optim=_MUON
        ),
        data="described-shapes",
        size=64,
        train=TrainConfig(steps=1500, batch=32, ema=0.995),
    ),
}
