"""CLIP: pictures and texts in one space, where those that belong together lie together.

Radford, Kim, Hallacy, Ramesh, Goh, Agarwal, Sastry, Askell, Mishkin, Clark, Krueger, Sutskever: Learning
Transferable Visual Models From Natural Language Supervision, ICML 2021, arXiv 2103.00020. OpenAI's models
with vision transformers and transformers' ``CLIPModel`` folders are this system.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from sfumato.compat.clip import CLASS, ClipFolder
from sfumato.compat.openai_clip import PUBLISHED, read_openai
from sfumato.compat.part import Weights, fill
from sfumato.core import parallel
from sfumato.core.contrastive import contrastive_losses
from sfumato.core.request import Event, Progress, Ranking, Score
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.bpe import learned_merges
from sfumato.data.clip_bpe import ClipTokenizer
from sfumato.data.dataset import Dataset, Facts
from sfumato.data.near_misses import NearMisses
from sfumato.errors import DataError, UsageError
from sfumato.nn.clip import WARMEST, ClipConfig, ClipNetwork, covering
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.vit import VitConfig

HEARD = 2000
"""Captions from which near misses are learned."""


@dataclass(frozen=True)
class CLIPConfig:
    """Both towers, the tokenizer, and how they learn."""

    network: ClipConfig = ClipConfig()
    merges: tuple[str, ...] = ()
    """Of the tokenizer, each "left right"; learned from the words of the data it is fitted to."""
    most: int = 48_894
    """Merges that are learned at most."""
    templates: tuple[str, ...] = ("a photo of a {}.",)
    """Sentences around a label, unless others are asked for; their vectors are averaged."""
    misses: int = 0
    """Captions with one word changed, for each picture, from which it must tell its own: without them colours
    and places tell scenes apart, and shapes are never learned."""
    optim: OptimConfig = OptimConfig(lr=5e-4, betas=(0.9, 0.98), weight_decay=0.2, warmup=2000)
    chunk: int = 64
    """Pictures looked at at a time."""


class CLIP(System[Score]):
    """A tower that looks at pictures and a tower that reads texts, trained to agree on pairs."""

    tasks = (Score,)
    needs = frozenset({"image", "caption"})
    Config = CLIPConfig
    pipelines = (CLASS,)
    published = PUBLISHED

    def __init__(self, config: CLIPConfig, tokenizer: ClipTokenizer | None = None):
        """``tokenizer`` None means the one of ``config.merges``."""
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer or ClipTokenizer.of(config.merges, config.network.text.length)
        self.network = ClipNetwork(config.network)
        self._near = NearMisses(())

    @classmethod
    def fit(cls, config: CLIPConfig, facts: Facts) -> CLIPConfig:
        network = config.network
        vision = replace(network.vision, channels=facts.channels, size=(facts.height, facts.width))
        _ = vision.grid
        merges = learned_merges(facts.words, config.most)
        size = len(ClipTokenizer.of(merges, network.text.length).vocabulary)
        mean, std = (_for_channels(values, facts.channels) for values in (network.mean, network.std))
        text = replace(network.text, vocabulary=size)
        network = replace(network, vision=vision, text=text, end=size - 1, mean=mean, std=std)
        return replace(config, network=network, merges=merges)

    @classmethod
    def from_diffusers(cls, folder: Path) -> CLIP:
        """A folder of transformers' ``CLIPModel`` and its processor."""
        return cls._of(ClipFolder.read(folder))

    @classmethod
    def from_file(cls, path: Path) -> CLIP:
        """OpenAI's weight file, or the folder that holds it beside its tokenizer."""
        return cls._of(read_openai(path))

    @classmethod
    def _of(cls, found: ClipFolder) -> CLIP:
        system = cls(CLIPConfig(found.config), found.tokenizer)
        fill(system.network, found.weights)
        return system

    def to_diffusers(self, folder: Path) -> None:
        """A folder that transformers opens as ``CLIPModel`` and ``CLIPProcessor``."""
        weights = Weights(self.network.state_dict())
        ClipFolder(self.config.network, self.tokenizer, weights).write(folder)

    def adopt(self, base: System[Any]) -> None:
        """Go on from another CLIP of the same shape that reads the same words."""
        if not isinstance(base, CLIP) or (base.config.network, base.config.merges) != (
            self.config.network,
            self.config.merges,
        ):
            raise DataError(
                f"CLIP can go on from a CLIP of its own shape and words, got a {type(base).__name__} that "
                "differs; give one that was trained with the same settings."
            )
        self.network.load_state_dict(base.network.state_dict())

    def players(self) -> dict[str, Player]:
        ends = (*self.network.vision_model.ends, self.network.visual_projection, self.network.text_projection)
        return {"clip": Player((self.network,), self.config.optim, ends)}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Figure 3: every picture finds its text among all, and every text its picture."""
        captions, count = list(batch["caption"]), len(batch["caption"])
        wrong = [text for _ in range(self.config.misses) for text in self._near_misses(captions, batch.rng)]
        tokens = self.tokens(captions + wrong)
        images, texts, scale = self.network(batch["image"], tokens)
        texts, *near = texts.split(count)
        misses = torch.stack(near, 1) if near else None
        yield Loss.sum("clip", **contrastive_losses(images, texts, scale, tokens[:count], misses))
        with torch.no_grad():
            parallel.local(self.network.logit_scale).clamp_(0, WARMEST)

    def prepare(self, data: Dataset) -> Dataset:
        """Learn from some captions which words may stand where, if near misses are asked for."""
        if self.config.misses:
            rows = torch.arange(min(len(data), HEARD)).split(self.config.chunk)
            self._near = NearMisses(text for part in rows for text in data.batch(part)["caption"])
        return data

    def _near_misses(self, captions: list[str], rng: Rng) -> list[str]:
        return self._near.of(captions, rng.uniform().tolist(), rng.uniform().tolist())

    # --- what others use: embeddings ---------------------------------------------------------------

    @property
    def channels(self) -> int:
        return self.config.network.vision.channels

    @property
    def scale(self) -> Float[Tensor, ""]:
        """What cosines are multiplied by before a softmax over them."""
        return self.network.logit_scale.float().exp().squeeze()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what the image tower looks at."""
        return self.config.network.vision.size

    @property
    def templates(self) -> tuple[str, ...]:
        return self.config.templates

    @property
    def fingerprint(self) -> str:
        """Tells these weights, and their precision, from any other's."""
        told = (self.config.network, self.dtype)
        digest = hashlib.blake2b(repr(told).encode(), digest_size=16)
        for part in (self.network.visual_projection, self.network.vision_model.post_layernorm):
            digest.update(part.weight.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def prepared(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c i j"]:
        """As the image tower takes them: scaled until they cover its size, the middle cut out."""
        return covering(pixels, self.size)

    def encode_images(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """Unit vectors of pictures in [-1, 1] of any size; gradients flow to the pixels."""
        parts = pixels.to(self.device).split(self.config.chunk)
        return torch.cat([self.network.images(part) for part in parts])

    def encode_texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors of texts; ``unread`` tells what does not fit."""
        return self.network.texts(self.tokens(texts))

    def tokens(self, texts: Sequence[str]) -> Int[Tensor, "n l"]:
        """The numbers of texts, on the device."""
        if not texts:
            raise UsageError("There are no texts to encode; give at least one.")
        return self.tokenizer.encode(texts).tokens.to(self.device)

    def encode_labels(self, labels: Sequence[str], templates: Sequence[str]) -> Float[Tensor, "k d"]:
        """Unit vectors of labels, each the mean over sentences around it (section 3.1.4)."""
        check_templates(templates)
        texts = [template.replace("{}", label) for label in labels for template in templates]
        return normalize(self.encode_texts(texts).unflatten(0, (len(labels), -1)).mean(1), dim=1)

    def unread(self, texts: Sequence[str]) -> tuple[str, ...]:
        """A sentence for every text whose end does not fit."""
        dropped = self.tokenizer.encode(texts).dropped.tolist()
        return tuple(
            f"The end of '{text}' does not fit and was not read: '{self.tokenizer.lost(text)}'."
            for text, count in zip(texts, dropped, strict=True)
            if count
        )

    @torch.no_grad()
    def run(self, request: Score) -> Iterator[Event]:
        """Cosines of every picture with every text, and the softmax of their scaled values."""
        if not request.texts:
            raise UsageError("A score needs texts to compare with; give at least one.")
        texts = self.encode_labels(request.texts, request.templates)
        seen: list[Tensor] = []
        parts = request.images.split(self.config.chunk)
        for done, part in enumerate(parts, start=1):
            seen.append(self.encode_images(part))
            yield Progress(done / len(parts))
        images = torch.cat(seen)
        scores = images @ texts.mT
        shares = (scores * self.scale).softmax(1)
        yield Ranking(scores, shares, tuple(request.texts), images, self.unread(request.texts))


def check_templates(templates: Sequence[str]) -> None:
    """Raise ``UsageError`` for a template without a place for the text, or for none at all."""
    for template in templates or ("",):
        if "{}" not in template:
            raise UsageError(f"A template says by {{}} where the text stands, got '{template}'.")


def _for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """As many values as there are channels; for other pictures than those meant, their mean."""
    return values if len(values) == channels else (sum(values) / len(values),) * channels


_LAPTOP = Preset(
    CLIPConfig(
        network=ClipConfig(
            vision=VitConfig(
                size=(64, 64),
                patch=8,
                width=128,
                layers=5,
                heads=4,
                hidden=512,
                activation="gelu",
                stem=(32, 64),
            ),
            text=ClipTextConfig(length=44, width=128, layers=2, heads=4, hidden=512, activation="gelu"),
            dimension=128,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            scale=50.0,  # about where long training ends: pictures and texts keep to cones of their own
        ),
        most=2048,
        misses=2,
        templates=("a {}", "an {}"),
        optim=OptimConfig(kind="muon", lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01, warmup=50, decay=0.3),
    ),
    data="shapes",
    size=64,
    train=TrainConfig(steps=700, batch=96, ema=0.99),
)
_LITTLE = replace(
    _LAPTOP.config.network,
    vision=replace(
        _LAPTOP.config.network.vision, size=(32, 32), patch=4, width=96, layers=4, hidden=384, stem=()
    ),
    text=replace(_LAPTOP.config.network.text, length=16, width=96, hidden=384),
    dimension=64,
)
CLIP.presets = {
    "laptop": _LAPTOP,
    "corners": Preset(
        replace(_LAPTOP.config, network=_LITTLE),
        data="corner-shape",
        size=32,
        train=TrainConfig(steps=500, batch=128, ema=0.99),
    ),
    "paper": Preset(
        CLIPConfig(), data="folder", size=224, train=TrainConfig(steps=390_000, batch=32_768, ema=0.0)
    ),
}
