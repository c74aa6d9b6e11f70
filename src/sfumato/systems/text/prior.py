"""unCLIP's prior: from words to the embedding of a picture that shows them.

Ramesh, Dhariwal, Nichol, Chu, Chen: Hierarchical Text-Conditional Image Generation with CLIP Latents, 2022,
arXiv 2204.06125, section 2.2. Texts and pictures lie in one space but not in one place; a prior steps over
the gap, by diffusion or number by number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from sfumato.core import guidance, solvers
from sfumato.core.denoiser import Denoiser
from sfumato.core.generate import in_turn
from sfumato.core.process import Cosine, Process
from sfumato.core.request import Embeddings, Event, Imagine, Progress
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Dataset, Encoded, Facts
from sfumato.device import autocast
from sfumato.errors import DataError, UsageError, nearest
from sfumato.nn.clip import ClipConfig
from sfumato.nn.condition import Condition
from sfumato.nn.prior import CodeTransformer, PriorConfig, PriorTransformer
from sfumato.systems.text.clip import CLIP, CLIPConfig

PART = 256
"""Pictures encoded at a time before training."""


@dataclass(frozen=True)
class DiffusionPriorConfig:
    """A diffusion over embeddings that predicts the clean one."""

    process: Process = Process(Cosine())
    solver: str = "ancestral"
    steps: int = 64
    candidates: int = 2
    """Embeddings drawn for each text, of which the one nearest to the text's is kept."""


@dataclass(frozen=True)
class AutoregressivePriorConfig:
    """One number after the other."""

    components: int = 319
    """Principal components of the pictures' embeddings that are kept."""
    buckets: int = 1024
    """Values that each can take."""


@dataclass(frozen=True)
class UnclipPriorConfig:
    """CLIP, the transformer, the ways it draws, and how it learns."""

    clip: CLIPConfig = CLIPConfig()
    network: PriorConfig = PriorConfig()
    diffusion: DiffusionPriorConfig | None = DiffusionPriorConfig()
    """None for a prior that does not draw in this way."""
    autoregressive: AutoregressivePriorConfig | None = None
    """The same; where there are both, each has a transformer, and this is the second choice."""
    drop: float = 0.1
    """Share of texts withheld in training, so that guidance has something to guide away from."""
    guidance: float = 1.0
    optim: OptimConfig = OptimConfig(lr=1.1e-4, betas=(0.9, 0.96), weight_decay=6e-2, warmup=1000)


class UnclipPrior(System[Imagine]):
    """A frozen CLIP, and what it takes to guess its view of a picture from a caption."""

    tasks = (Imagine,)
    needs = frozenset({"image", "caption"})
    Config = UnclipPriorConfig

    def __init__(self, config: UnclipPriorConfig):
        super().__init__()
        self.config = config
        self.clip = CLIP(config.clip).requires_grad_(False)
        seen = config.clip.network
        network = replace(
            config.network, dimension=seen.dimension, tokens=seen.text.width, length=seen.text.length
        )
        one, other = config.diffusion, config.autoregressive
        self.diffusion = None if one is None else _Diffusion(network, one)
        self.autoregressive = None if other is None else _Autoregression(network, other)
        if not self.ways:
            raise UsageError("A prior draws in some way; give it 'diffusion', 'autoregressive', or both.")

    @classmethod
    def fit(cls, config: UnclipPriorConfig, facts: Facts) -> UnclipPriorConfig:
        return replace(config, clip=CLIP.fit(config.clip, facts))

    def adopt(self, base: System[Any]) -> None:
        """Take over a trained CLIP."""
        if not isinstance(base, CLIP) or base.config.network != self.config.clip.network:
            raise DataError(
                f"A prior needs a trained CLIP of its own shape, got a {type(base).__name__} that differs; "
                "train one with 'sfumato train clip' and the same settings."
            )
        self.clip.load_state_dict(base.state_dict())

    def players(self) -> dict[str, Player]:
        optim = self.config.optim
        return {name: Player((way.network,), optim, way.network.ends) for name, way in self.ways.items()}

    @property
    def ways(self) -> dict[str, _Diffusion | _Autoregression]:
        """Those it has, by name; the first is taken unless another is asked for."""
        both = {"diffusion": self.diffusion, "autoregressive": self.autoregressive}
        return {name: way for name, way in both.items() if way is not None}

    @property
    def channels(self) -> int:
        return self.clip.channels

    @torch.no_grad()
    def prepare(self, data: Dataset) -> Dataset:
        """Look at every picture and read every caption once; measure what codes need to know."""
        images, texts, ids = [], [], []
        for rows in torch.arange(len(data)).split(PART):
            batch = data.batch(rows)
            tokens = self.clip.tokens(batch["caption"])
            with autocast("auto", self.device):
                images.append(self.clip.encode_images(batch["image"]).float().cpu())
                texts.append(self.clip.network.texts(tokens).float().cpu())
            ids.append(tokens.cpu())
        seen, read = torch.cat(images), torch.cat(texts)
        for way in self.ways.values():
            way.measure(seen, read)
        return Encoded(data, {"picture": seen, "text": read, "ids": torch.cat(ids)}, {})

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Section 2.2 on what ``prepare`` encoded; now and then without the text."""
        rng = batch.rng
        keep = (rng.uniform() >= self.config.drop).to(self.device)
        cond = self._read(batch["ids"], batch["text"]).drop(keep, self._silence(len(keep)))
        for name, way in self.ways.items():
            yield Loss.sum(name, **way.loss(batch["picture"], batch["text"], cond, rng))

    def run(self, request: Imagine) -> Iterator[Event]:
        """Embeddings of pictures of the prompts."""
        given = (request.prompt,) if isinstance(request.prompt, str) else request.prompt
        texts = in_turn(given, range(request.count))
        scale = self.config.guidance if request.guidance is None else request.guidance
        rng = Rng.sampling(request.seed, request.count)
        for done, now in self.imagine(texts, rng, scale, request.steps, request.prior):
            vectors = now
            yield Progress(done)
        yield Embeddings(vectors, captions=tuple(texts), notes=self.clip.unread(texts))

    @torch.no_grad()
    def imagine(
        self,
        texts: Sequence[str],
        rng: Rng,
        scale: float = 1.0,
        steps: int | None = None,
        prior: str | None = None,
    ) -> Iterator[tuple[float, Float[Tensor, "n d"]]]:
        """How far it has come, and unit vectors in CLIP's space: what pictures of the texts would look like.

        One stream of ``rng`` a text; ``scale`` is that of guidance without a classifier. ``prior`` names the
        way to draw; None is the first it has, and "none" takes the texts' own vectors.
        Raises ``UsageError`` for a way it has not.
        """
        name, choice = prior or next(iter(self.ways)), (*self.ways, "none")
        if name not in choice:
            raise UsageError(f"This model has no prior '{name}'{nearest(name, choice)}")
        ids = self.clip.tokens(texts)
        vector = self.clip.network.texts(ids)
        if name == "none":
            yield 1.0, vector.float()
            return
        cond, null = self._read(ids, vector), self._silence(len(ids))
        yield from self.ways[name].draw(cond, null, vector, rng, scale, steps)

    @torch.no_grad()
    def _read(self, ids: Int[Tensor, "b l"], vector: Float[Tensor, "b d"]) -> Condition:
        return Condition(tokens=self.clip.network.text(ids).float(), vector=vector.float())

    def _silence(self, count: int) -> Condition:
        """What is read where nothing is said."""
        ids = self.clip.tokens([""])
        alone = self._read(ids, self.clip.network.texts(ids).detach())
        return Condition(
            *(None if way is None else way.expand(count, *way.shape[1:]) for way in vars(alone).values())
        )


class _Diffusion(nn.Module):
    """Embeddings times the root of their dimension, so that each number has variance 1 or so."""

    def __init__(self, network: PriorConfig, config: DiffusionPriorConfig):
        super().__init__()
        self.config, self.size = config, network.dimension**0.5
        self.denoiser = Denoiser(PriorTransformer(network), config.process, "x0")

    @property
    def network(self) -> PriorTransformer:
        return self.denoiser.network

    def measure(self, seen: Float[Tensor, "n d"], read: Float[Tensor, "n d"]) -> None:
        """Nothing to learn before training."""

    def loss(self, picture: Tensor, text: Tensor, cond: Condition, rng: Rng) -> dict[str, Tensor]:
        t = self.config.process.schedule.times(rng)
        return {"mse": self.denoiser.loss(self.size * picture[:, None], t, cond, rng)}

    def draw(
        self,
        cond: Condition,
        null: Condition,
        text: Float[Tensor, "n d"],
        rng: Rng,
        scale: float,
        steps: int | None,
    ) -> Iterator[tuple[float, Float[Tensor, "n d"]]]:
        c = self.config
        like = torch.empty(len(text), c.candidates, text.shape[1], device=text.device)
        denoise = guidance.classifier_free(self.denoiser, cond, null, scale)
        times = c.process.schedule.grid(steps or c.steps, "trailing")
        x = c.process.prior(like, rng)
        for step in solvers.named(c.solver)(denoise, c.process, x, times, rng=rng):
            found = normalize(step.x0.float(), dim=2)
            best = (found * text.float()[:, None]).sum(2).argmax(1)
            yield 1 - step.t, found[torch.arange(len(text), device=text.device), best]


class _Autoregression(nn.Module):
    """Principal components, the largest first, each one of so many numbers; and the nearness to the text."""

    mean: Tensor
    basis: Tensor
    values: Tensor
    edges: Tensor
    near_edges: Tensor

    def __init__(self, network: PriorConfig, config: AutoregressivePriorConfig):
        super().__init__()
        d, p, k = network.dimension, config.components, config.buckets
        if p > d:
            raise UsageError(f"An embedding of {d} numbers has no {p} principal components; keep fewer.")
        self.config = config
        self.network = CodeTransformer(network, p, k)
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("basis", torch.eye(p, d))
        self.register_buffer("values", torch.zeros(p, k))
        self.register_buffer("edges", torch.zeros(p, k - 1))
        self.register_buffer("near_edges", torch.zeros(k - 1))

    def measure(self, seen: Float[Tensor, "n d"], read: Float[Tensor, "n d"]) -> None:
        """Principal components of the pictures' embeddings; buckets that hold equally many each."""
        k = self.config.buckets
        self.mean.copy_(seen.mean(0))
        _, vectors = torch.linalg.eigh(torch.cov(seen.double().T))
        self.basis.copy_(vectors.flip(1).T[: len(self.basis)])
        shares = torch.arange(1, k) / k
        parts = (seen - self.mean.cpu()) @ self.basis.cpu().T
        edges = _quantiles(parts, shares)
        self.edges.copy_(edges.T)
        codes = self.codes(seen.to(self.edges)).cpu()
        counts = torch.zeros(len(self.basis), k).scatter_add_(1, codes.T, torch.ones_like(parts.T))
        sums = torch.zeros(len(self.basis), k).scatter_add_(1, codes.T, parts.T)
        self.values.copy_(sums / counts.clamp(min=1))
        self.near_edges.copy_(_quantiles((seen * read).sum(1, keepdim=True), shares)[:, 0])

    def codes(self, picture: Float[Tensor, "n d"]) -> Int[Tensor, "n p"]:
        """The bucket of each component."""
        parts = (picture - self.mean) @ self.basis.T
        return torch.searchsorted(self.edges, parts.T.contiguous()).T

    def vectors(self, codes: Int[Tensor, "n p"]) -> Float[Tensor, "n d"]:
        """The unit vectors in the middle of these buckets."""
        parts = self.values.gather(1, codes.T).T
        return normalize(parts.float() @ self.basis.float() + self.mean.float(), dim=1)

    def loss(self, picture: Tensor, text: Tensor, cond: Condition, rng: Rng) -> dict[str, Tensor]:
        codes = self.codes(picture)
        nearness = torch.searchsorted(self.near_edges, (picture * text).sum(1))
        logits = self.network(nearness, codes, cond)
        return {"nats": cross_entropy(logits.float().flatten(0, 1), codes.flatten())}

    def draw(
        self,
        cond: Condition,
        null: Condition,
        text: Float[Tensor, "n d"],
        rng: Rng,
        scale: float,
        steps: int | None,
    ) -> Iterator[tuple[float, Float[Tensor, "n d"]]]:
        """The nearness is one of the upper half of all (section 2.2); ``steps`` does not count here."""
        c, count = self.config, len(text)
        upper = c.buckets // 2 + (rng.uniform() * (c.buckets - c.buckets // 2)).long()
        nearness = upper.to(text.device)
        codes = torch.zeros(count, c.components, dtype=torch.long, device=text.device)
        like = next(self.network.parameters())
        told, untold = cond.to(like), null.to(like)
        for i in range(c.components):
            logits = self.network(nearness, codes, told)[:, i].float()
            if scale != 1:
                without = self.network(nearness, codes, untold)[:, i].float()
                logits = without + scale * (logits - without)
            chance = logits.softmax(1).cumsum(1)
            drawn = rng.uniform().to(chance)[:, None] * chance[:, -1:]
            codes[:, i] = torch.searchsorted(chance, drawn)[:, 0].clamp(max=c.buckets - 1)
            yield (i + 1) / c.components, self.vectors(codes)


def _quantiles(values: Float[Tensor, "n p"], shares: Float[Tensor, " k"]) -> Float[Tensor, "k p"]:
    """``torch.quantile`` refuses large inputs; sorting does not."""
    ordered = values.sort(0).values
    return ordered[(shares * (len(values) - 1)).round().long()]


_SMALL = PriorConfig(width=128, layers=4, heads=4, hidden=512)
_MUON = OptimConfig(kind="muon", lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01, warmup=50, decay=0.4)
_LITTLE = replace(_SMALL, width=96, layers=3, hidden=384)
_FEW_STEPS = DiffusionPriorConfig(steps=32)
_FEW_CODES = AutoregressivePriorConfig(components=32, buckets=32)
_CLIP, _CORNERS = CLIP.presets["laptop"], CLIP.presets["corners"]
_LAPTOP = Preset(
    UnclipPriorConfig(clip=_CLIP.config, network=_SMALL, optim=_MUON),
    data=_CLIP.data,
    size=_CLIP.size,
    train=TrainConfig(steps=500, batch=128, ema=0.99),
    base=("clip", "laptop"),
)
UnclipPrior.presets = {
    "laptop": _LAPTOP,
    "autoregressive": replace(
        _LAPTOP, config=replace(_LAPTOP.config, diffusion=None, autoregressive=_FEW_CODES)
    ),
    "corners": Preset(
        replace(
            _LAPTOP.config,
            clip=_CORNERS.config,
            network=_LITTLE,
            diffusion=_FEW_STEPS,
            autoregressive=_FEW_CODES,
        ),
        data=_CORNERS.data,
        size=_CORNERS.size,
        train=TrainConfig(steps=600, batch=128, ema=0.99),
        base=("clip", "corners"),
    ),
    "paper": Preset(
        UnclipPriorConfig(clip=CLIPConfig(ClipConfig()), network=PriorConfig(dimension=512, tokens=512)),
        data="folder",
        size=224,
        train=TrainConfig(steps=600_000, batch=4096, ema=0.9999),
        base=("clip", "paper"),
    ),
}
