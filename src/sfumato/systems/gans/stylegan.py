"""Progressive GAN, StyleGAN 1 and StyleGAN 2: pictures from styles, coarse to fine.

Karras, Aila, Laine, Lehtinen: Progressive Growing of GANs, ICLR 2018, arXiv 1710.10196. Karras, Laine, Aila:
A Style-Based Generator Architecture, CVPR 2019, arXiv 1812.04948. Karras et al.: Analyzing and Improving the
Image Quality of StyleGAN, CVPR 2020, arXiv 1912.04958; with limited data, NeurIPS 2020, arXiv 2006.06676.
When a resolution is added, its layers begin with a fresh optimiser state; the others keep theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from sfumato.compat.stylegan import NVIDIA, ROSINALITY, read
from sfumato.core.adversarial import Game, PathLength, critic_loss, generator_loss, gradient_penalty, r1
from sfumato.core.augmentation import Augmentation, AugmentConfig
from sfumato.core.latent import walk
from sfumato.core.projection import ProjectionConfig, project
from sfumato.core.request import Event, Generate, Images, Invert, Mix, Progress, Video, Walk
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.stylegan import Mapping, StyleConfig, Synthesis
from sfumato.nn.stylegan_critic import StyleCritic

MANY = 2000
"""Latents by which the spread of styles is measured."""


@dataclass(frozen=True)
class StyleGANConfig:
    """Networks, game, penalties, growth, augmentation, and how one samples."""

    network: StyleConfig = StyleConfig()
    game: Game = "non_saturating"
    r1: float = 1.0
    """Weight gamma of half the squared gradient at real pictures."""
    r1_every: int = 16
    """Steps between two such penalties, each as many times as heavy."""
    path: float = 2.0
    """Weight of path length regularisation."""
    path_every: int = 8
    """Steps between two; 0 for none."""
    penalty: float = 0.0
    """Weight of the gradient penalty of a "wasserstein" game."""
    drift: float = 0.0
    """Weight of the critic's squared answer to real pictures."""
    mixing: float = 0.9
    """Share of pictures made from two latents."""
    average: float = 0.995
    """Decay of the average of styles, towards which truncation pulls."""
    grow: int = 0
    """Steps in which a resolution is faded in, and then stays, before the next one; 0 for no growth."""
    first: int = 0
    """Resolution that growth starts from; 0 is the smallest."""
    augment: AugmentConfig = AugmentConfig()
    """What happens to pictures before the critic sees them."""
    optim: OptimConfig = OptimConfig(lr=2.5e-3, betas=(0.0, 0.99), clip=0.0)
    truncation: float = 1.0
    """Where none is asked for."""
    cutoff: int | None = None
    """How many styles are truncated, from the coarsest; none means all."""
    projection: ProjectionConfig = ProjectionConfig()
    chunk: int = 256
    """Pictures made at a time."""


@dataclass(frozen=True)
class Phase:
    """The resolution that is trained, and how much of it is shown."""

    level: int
    share: float


def phase(config: StyleGANConfig, step: int) -> Phase:
    """Of growth, at ``step``: the first resolution stays, each further one fades in and then stays."""
    last = len(config.network.levels) - 1
    if not config.grow:
        return Phase(last, 1.0)
    stage, inside = divmod(step + config.grow, 2 * config.grow)
    if config.first + stage > last:
        return Phase(last, 1.0)
    return Phase(config.first + stage, min(1.0, inside / config.grow) if stage else 1.0)


class StyleGAN(System[Generate | Mix | Walk | Invert]):
    """A generator of styles, and a critic."""

    tasks = (Generate, Mix, Walk, Invert)
    Config = StyleGANConfig
    published = frozenset({NVIDIA, ROSINALITY})
    config: StyleGANConfig
    seen: Tensor

    def __init__(self, config: StyleGANConfig):
        super().__init__()
        net = config.network
        if config.grow and (net.skip or not net.grows):
            raise UsageError(
                "Growth shows one resolution at a time, which network.skip does not; "
                "set network.grows to true and network.skip to false, or grow to 0."
            )
        self.config = config
        self.mapping, self.synthesis, self.critic = Mapping(net), Synthesis(net), StyleCritic(net)
        self.path, self.augment = PathLength(), Augmentation(config.augment)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    @classmethod
    def fit(cls, config: StyleGANConfig, facts: Facts) -> StyleGANConfig:
        shape = replace(config.network, channels=facts.channels, height=facts.height, width=facts.width)
        return replace(config, network=shape)

    @classmethod
    def from_file(cls, path: Path) -> StyleGAN:
        """A pickle of NVIDIA's, or a file of rosinality's port; without a critic there, ours is untrained."""
        found = read(path)
        system = cls(StyleGANConfig(found.network))
        system.load_state_dict(system.state_dict() | dict(found.tensors))
        return system

    @property
    def channels(self) -> int:
        return self.config.network.channels

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"truncation"} if self.config.network.mapping else ())

    # --- training ------------------------------------------------------------------------------------

    def players(self) -> dict[str, Player]:
        """Lazy penalties are steps of their own; all together move as far as the others alone would have."""
        c = self.config
        return {
            "generator": Player((self.mapping, self.synthesis), _lazily(c.optim, c.path_every)),
            "critic": Player((self.critic,), _lazily(c.optim, c.r1_every if c.r1 else 0)),
        }

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Generator, path length, critic, R1, each when it is due; both players see the same fakes."""
        c, rng, now = self.config, batch.rng, phase(self.config, step)
        self.seen.fill_(step)
        real = self._shown(batch["image"], now)
        fake = self._make(self._styles(rng, now), rng, now)
        answer = self._judge(fake, rng, now)
        yield Loss.sum("generator", game=generator_loss(c.game, answer.float()))
        if c.path_every and step % c.path_every == 0:
            yield Loss.sum("generator", path=c.path * c.path_every * self._path(rng, now))

        fake = fake.detach()
        critic = partial(self._judged, now, self.augment.chances(rng))
        told, lie = critic(real).float(), self._judge(fake, rng, now).float()
        parts = {"game": critic_loss(c.game, told, lie)}
        if c.penalty:
            parts["penalty"] = c.penalty * gradient_penalty(critic, real, fake, rng.uniform())
        if c.drift:
            parts["drift"] = c.drift * told.square().mean()
        yield Loss.sum("critic", **parts)
        if c.r1 and step % c.r1_every == 0:
            yield Loss.sum("critic", r1=c.r1 / 2 * c.r1_every * r1(critic, real))
        self.augment.follow(told.detach(), step)

    def _styles(self, rng: Rng, now: Phase) -> Float[Tensor, "b l w"]:
        """Styles of new latents; of two each, a share of the time, from a random layer on (section 3.1)."""
        c, device = self.config, self.device
        one = self.mapping(rng.normal(c.network.z).to(device))
        with torch.no_grad():
            self.mapping.average.lerp_(one.float().mean(0), 1 - c.average)
        styles = one.unsqueeze(1).expand(-1, c.network.styles, -1)
        if not c.mixing:
            return styles
        other = self.mapping(rng.normal(c.network.z).to(device)).unsqueeze(1)
        mixed, first = rng.uniform() < c.mixing, rng.integers(1, 2 * now.level + 2)
        first = torch.where(mixed, first, c.network.styles).to(device)
        theirs = torch.arange(c.network.styles, device=device) >= first[:, None]
        return torch.where(theirs.unsqueeze(2), other, styles)

    def _make(self, styles: Tensor, rng: Rng, now: Phase) -> Tensor:
        pixels: Tensor = self.synthesis(
            styles, self._noise(rng)[: len(styles)], level=now.level, share=now.share
        )
        return pixels

    def _noise(self, rng: Rng) -> Tensor:
        """Standard normal numbers for all layers of every picture."""
        count = sum(h * w for h, w in self.synthesis.noise_shapes)
        return rng.normal(count).to(self.device)

    def _path(self, rng: Rng, now: Phase) -> Tensor:
        """Path length regularisation on half of the batch (appendix B)."""
        styles = self._styles(rng, now)
        styles = styles[: (len(styles) + 1) // 2]
        pixels = self._make(styles, rng, now)
        noise = rng.normal(*pixels.shape[1:])[: len(styles)].to(self.device)
        length: Tensor = self.path(pixels, styles, noise)
        return length

    def _judge(self, pixels: Tensor, rng: Rng, now: Phase) -> Tensor:
        return self._judged(now, self.augment.chances(rng), pixels)

    def _judged(self, now: Phase, chances: Tensor, pixels: Tensor) -> Tensor:
        """The critic's answer to augmented pictures."""
        logits: Tensor = self.critic(self.augment(pixels, chances), level=now.level, share=now.share)
        return logits

    def _shown(self, x: Tensor, now: Phase) -> Tensor:
        """Real pictures as large, and with as much of the last resolution, as the generator's."""
        steps = len(self.config.network.levels) - 1 - now.level
        x = avg_pool2d(x, 2**steps) if steps else x
        if now.share == 1:
            return x
        return torch.lerp(interpolate(avg_pool2d(x, 2), scale_factor=2, mode="nearest"), x, now.share)

    # --- serving -------------------------------------------------------------------------------------

    def run(self, request: Generate | Mix | Walk | Invert) -> Iterator[Event]:
        """New pictures, pictures of two seeds each, a way between pictures, or the styles of pictures."""
        match request:
            case Generate():
                return in_parts(self._serve, request, self.config.chunk, self.hears)
            case Mix():
                return self._mix(request)
            case Walk():
                return self._walk(request)
            case Invert():
                return self._invert(request)

    def preview(self, count: int, seed: int) -> Generate:
        return Generate(count=count, seed=seed)

    @torch.no_grad()
    def _serve(self, request: Generate) -> Iterator[Event]:
        rng = Rng.sampling(request.seed, request.count)
        styles = self._truncated(self._latents(rng), request.truncation)
        yield Images(self._pictures(styles, self._given_noise(rng)))

    @torch.no_grad()
    def _mix(self, request: Mix) -> Iterator[Event]:
        """Section 3.1: two latents, and the layer from which the second gives the styles."""
        layers = self.config.network.styles
        first = layers // 2 if request.crossover is None else request.crossover
        if not 0 <= first <= layers:
            raise UsageError(f"This model has {layers} layers; crossover is {first}, give 0 to {layers}.")
        if not self.config.network.mapping:
            raise UsageError("A Progressive GAN has no styles to mix; ask a StyleGAN.")
        one, two = Rng(list(request.coarse)), Rng(list(request.fine))
        coarse = self._truncated(self._latents(one), request.truncation)
        fine = self._truncated(self._latents(two), request.truncation)
        rows, columns = len(coarse), len(fine)
        noise = self._given_noise(one)
        noise = None if noise is None else noise.repeat_interleave(columns, 0)
        coarse = coarse.repeat_interleave(columns, 0)
        styles = torch.cat([coarse[:, :first], fine.repeat(rows, 1, 1)[:, first:]], 1)
        seeds = tuple(seed for seed in request.coarse for _ in range(columns))
        yield Images(self._pictures(styles, noise), seeds=seeds)

    @torch.no_grad()
    def _walk(self, request: Walk) -> Iterator[Event]:
        """Great circles lead from latent to latent, straight lines from style to style; the noise stays."""
        if request.images is not None:
            raise UsageError("StyleGAN walks between new pictures; invert yours first, or leave images out.")
        if request.label is not None or request.count < 2:
            raise UsageError(
                f"A walk leads over at least 2 pictures and no label, got {request.count} and "
                f"{request.label!r}; set count to 2 or more and leave the label out."
            )
        rng = Rng.sampling(request.seed, request.count)
        z = rng.normal(self.config.network.z).to(self.device, self.dtype)
        noise = self._given_noise(rng)
        if request.way == "slerp":
            w = self.mapping(walk(z, request.frames, "slerp", loop=request.loop))
        else:
            w = walk(self.mapping(z), request.frames, "lerp", loop=request.loop)
        styles = self._truncated(self._each(w), request.truncation)
        film = self._pictures(styles, None if noise is None else noise[:1].expand(len(styles), -1))
        yield Video(film.unsqueeze(0), seeds=tuple(rng.seeds))

    @torch.no_grad()
    def _invert(self, request: Invert) -> Iterator[Event]:
        """Search in W (one style for all layers) or W+ (one each) for what makes the pictures."""
        c = self.config
        if request.space not in ("", "w", "w+"):
            raise UsageError(f"StyleGAN has the spaces 'w' and 'w+', got '{request.space}'; choose one.")
        plan = c.projection if request.steps is None else replace(c.projection, steps=request.steps)
        target = request.images.to(self.device)
        rng = Rng.sampling(request.seed, len(target))
        z = torch.randn(MANY, c.network.z, generator=torch.Generator().manual_seed(0))
        w = self.mapping(z.to(self.device, self.dtype)).float()
        spread = (w - w.mean(0)).square().sum(1).mean().sqrt()
        layers = c.network.styles if request.space == "w+" else 1
        start = self.mapping.average.float().expand(len(target), layers, -1)
        styles = start
        for found in project(partial(self._drawn, noise=None), target, start, spread, rng, plan):
            styles = found.styles
            yield Progress(found.done, partial(self._pictures, styles, None))
        yield Images(self._pictures(styles, None), seeds=tuple(rng.seeds), latents=styles)

    def _given_noise(self, rng: Rng) -> Tensor | None:
        """Noise of each picture's own; none where the weights bring theirs."""
        return None if self.config.network.fixed_noise else self._noise(rng)

    def _latents(self, rng: Rng) -> Float[Tensor, "n l w"]:
        return self._each(self.mapping(rng.normal(self.config.network.z).to(self.device, self.dtype)))

    def _each(self, w: Tensor) -> Tensor:
        """One style for every layer."""
        return w.unsqueeze(1).expand(-1, self.config.network.styles, -1)

    def _truncated(self, styles: Float[Tensor, "n l w"], psi: float | None) -> Float[Tensor, "n l w"]:
        """Nearer to the average of all styles by the factor psi (StyleGAN 1, appendix B)."""
        psi = self.config.truncation if psi is None else psi
        cutoff = styles.shape[1] if self.config.cutoff is None else self.config.cutoff
        truncated = torch.lerp(self.mapping.average.to(styles), styles, psi)
        return torch.cat([truncated[:, :cutoff], styles[:, cutoff:]], 1)

    def _drawn(self, styles: Tensor, noise: Tensor | None) -> Tensor:
        """Pictures of styles, in full size even before growth has come there."""
        net, now = self.config.network, phase(self.config, int(self.seen))
        styles = styles.expand(-1, net.styles, -1).to(self.dtype)
        pixels: Tensor = self.synthesis(styles, noise, level=now.level, share=now.share)
        if now.level == len(net.levels) - 1:
            return pixels
        return interpolate(pixels, (net.height, net.width), mode="nearest")

    @torch.no_grad()
    def _pictures(self, styles: Tensor, noise: Tensor | None) -> Tensor:
        """As ``_drawn``, a chunk at a time, in [-1, 1]."""
        parts = styles.split(self.config.chunk)
        noises = [None] * len(parts) if noise is None else noise.split(self.config.chunk)
        drawn = [self._drawn(part, its) for part, its in zip(parts, noises, strict=True)]
        return torch.cat(drawn).float().clamp(-1, 1)


def _lazily(optim: OptimConfig, every: int) -> OptimConfig:
    """Learning rate and decays for one step in ``every`` more (StyleGAN 2, appendix B)."""
    if not every:
        return optim
    share = every / (every + 1)
    first, second = optim.betas
    return replace(optim, lr=optim.lr * share, betas=(first**share, second**share))


_FACES = Preset(StyleGANConfig(), data="faces", size=32, train=TrainConfig(steps=5000, batch=16, ema=0.999))
_OLD = StyleConfig(norm="adain", skip=False, residual=False)
StyleGAN.presets = {
    "laptop": replace(
        _FACES,
        config=StyleGANConfig(
            # Faces that are drawn leave nothing to chance: noise would stay as grain.
            StyleConfig(noise=False),
            r1=5.0,
            r1_every=4,
            path_every=0,
            optim=OptimConfig(lr=0.01, betas=(0.0, 0.99), clip=0.0, decay=0.3),
        ),
        train=replace(_FACES.train, steps=12_000),
    ),
    "stylegan1": replace(
        _FACES,
        config=StyleGANConfig(replace(_OLD, grows=True), path_every=0, grow=600, first=1, cutoff=4),
    ),
    "progressive": replace(
        _FACES,
        config=StyleGANConfig(
            replace(_OLD, norm="pixel", mapping=0, taps=(1, 1), noise=False, grows=True),
            game="wasserstein",
            r1=0.0,
            path_every=0,
            penalty=10.0,
            drift=1e-3,
            mixing=0.0,
            grow=600,
            optim=OptimConfig(lr=1e-3, betas=(0.0, 0.99), clip=0.0),
        ),
    ),
    "ada": replace(_FACES, config=StyleGANConfig(augment=AugmentConfig("ada", images=50_000)), data="folder"),
    "paper": Preset(
        StyleGANConfig(
            StyleConfig(3, 1024, 1024, 512, 512, 8, base=32768, most=512),
            r1=10.0,
            path_every=4,
            optim=OptimConfig(lr=2e-3, betas=(0.0, 0.99), clip=0.0),
        ),
        data="folder",
        size=1024,
        train=TrainConfig(steps=781_250, batch=32, ema=0.999),
    ),
}
