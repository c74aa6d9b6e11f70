"""unCLIP (DALL-E 2): pictures from CLIP's embeddings of pictures, which a prior imagines from words.

Ramesh, Dhariwal, Nichol, Chu, Chen: Hierarchical Text-Conditional Image Generation with CLIP Latents, 2022,
arXiv 2204.06125. The decoder (section 2.1) inverts CLIP's image tower; what the embedding says stays, what it
leaves open may vary, and arithmetic with embeddings becomes arithmetic with pictures (section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sfumato.core import guidance, solvers
from sfumato.core.denoiser import Denoiser, Predicts
from sfumato.core.generate import Generate, Request, in_turn
from sfumato.core.latent import between, walk
from sfumato.core.process import Cosine, Process, Spacing
from sfumato.core.request import Edit, Event, Images, Interpolate, Progress, TextDiff, Vary, Video
from sfumato.core.rng import Rng
from sfumato.core.serving import in_parts
from sfumato.core.steps import Project, Solver, Step
from sfumato.core.system import Batch, Loss, OptimConfig, Player, Preset, System, TrainConfig
from sfumato.data.dataset import Dataset, Facts, Joined
from sfumato.device import autocast
from sfumato.errors import DataError, UsageError
from sfumato.nn.unclip import EmbeddingDecoder, told, untold
from sfumato.nn.unet import UNetConfig
from sfumato.systems.text.prior import PART, UnclipPrior, UnclipPriorConfig

THOUGHT = 0.3
"""Share of the way to a picture from words, as progress counts it, that the prior takes."""


@dataclass(frozen=True)
class UnclipConfig:
    """CLIP with its priors, the decoder, and how one samples unless told otherwise."""

    height: int = 64
    """Pixels."""
    width: int = 64
    """Pixels."""
    prior: UnclipPriorConfig = UnclipPriorConfig()
    network: UNetConfig = UNetConfig()
    tokens: int = 4
    """Tokens that an embedding becomes, beside what joins the time."""
    process: Process = Process(Cosine())
    predicts: Predicts = "eps"
    drop: float = 0.1
    """Share of embeddings withheld in training, so that guidance has something to guide away from."""
    optim: OptimConfig = OptimConfig(lr=1.2e-4, weight_decay=6e-2)
    solver: str = "ddim"
    steps: int = 50
    spacing: Spacing = "trailing"
    guidance: float = 4.0
    """Of pictures from words, and inside masks; pictures that start from given ones are not guided."""
    agree: int = 4
    """How often each step inside a mask is taken, so that it agrees with what is outside."""
    chunk: int = 64
    """Pictures sampled at a time."""


class Begin(NamedTuple):
    """Where the decoder's walk begins, and what it is to show."""

    z: Float[Tensor, "b d"]
    """Unit vectors in CLIP's space."""
    x: Float[Tensor, "b c h w"]
    times: Float[Tensor, " s"]
    solver: Solver
    scale: float
    """Of guidance."""
    project: Project | None = None


class Unclip(System[Request]):
    """A frozen CLIP with trained priors, and a diffusion that makes pictures from embeddings of pictures.

    The decoder hears no words (the paper's may, and gains little): those of a request reach it through a
    prior. The paper's upsamplers are left out, and no public folders (Karlo's) are opened.
    """

    tasks = (Generate, Vary, Interpolate, TextDiff, Edit)
    needs = frozenset({"image", "caption"})
    Config = UnclipConfig

    def __init__(self, config: UnclipConfig):
        super().__init__()
        self.config = config
        self.prior = UnclipPrior(config.prior).requires_grad_(False)
        channels = self.prior.channels
        network = EmbeddingDecoder(
            replace(config.network, in_channels=channels, out_channels=channels),
            config.prior.clip.network.dimension,
            config.tokens,
        )
        self.denoiser = Denoiser(network, config.process, config.predicts)

    @classmethod
    def fit(cls, config: UnclipConfig, facts: Facts) -> UnclipConfig:
        prior = UnclipPrior.fit(config.prior, facts)
        return replace(config, prior=prior, height=facts.height, width=facts.width)

    def adopt(self, base: System[Any]) -> None:
        """Take over trained priors, and the CLIP they were trained with."""
        if not isinstance(base, UnclipPrior) or base.config != self.config.prior:
            raise DataError(
                f"unCLIP needs trained priors of its own shape, got a {type(base).__name__} that differs; "
                "train them with 'sfumato train prior' and the same settings."
            )
        self.prior.load_state_dict(base.state_dict())

    def players(self) -> dict[str, Player]:
        network = self.denoiser.network
        return {"decoder": Player((network,), self.config.optim, network.ends)}

    @property
    def channels(self) -> int:
        return self.prior.channels

    @property
    def hears(self) -> frozenset[str]:
        return frozenset({"caption", "prior"})

    @torch.no_grad()
    def prepare(self, data: Dataset) -> Dataset:
        """Look at every picture once."""
        seen = []
        for rows in torch.arange(len(data)).split(PART):
            with autocast("auto", self.device):
                seen.append(self.prior.clip.encode_images(data.batch(rows)["image"]).float().cpu())
        return Joined(data, {"seen": torch.cat(seen)})

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Section 2.1 on what ``prepare`` saw; now and then without it."""
        z, rng = batch["seen"], batch.rng
        keep = (rng.uniform() >= self.config.drop).to(z.device)
        cond = told(z).drop(keep, untold(z))
        t = self.config.process.schedule.times(rng)
        yield Loss.sum("decoder", mse=self.denoiser.loss(batch["image"], t, cond, rng))

    def run(self, request: Request) -> Iterator[Event]:
        """Pictures from words, or others in place of given ones."""
        if isinstance(request, Interpolate):
            return self._interpolate(request)
        plain, begin = self._asked(request)

        def serve(part: Generate) -> Iterator[Event]:
            start = part.seed - request.seed
            return self._serve(part, begin, range(start, start + part.count))

        return in_parts(serve, plain, self.config.chunk, self.hears)

    def preview(self, count: int, seed: int) -> Generate:
        return Generate(count=count, seed=seed, prompt=PREVIEW_PROMPTS)

    # --- where walks begin ---------------------------------------------------------------------------

    def _asked(self, request: Request) -> tuple[Generate, Callable[..., Iterator[float | Begin]]]:
        """A request as one for new pictures, and what walks for rows of it begin with."""
        match request:
            case Generate():
                return request, self._imagined
            case Vary():
                _check_share("strength", request.strength)
                if request.negative:
                    raise UsageError("This model's decoder hears no words, so there are none to avoid.")
                return _plain(request, request.images, solver=request.solver), partial(self._varied, request)
            case TextDiff():
                _check_share("theta", request.theta, zero=True)
                return _plain(request, request.images), partial(self._changed, request)
            case Edit():
                return _masked(request), partial(self._painted, request)
        raise UsageError(f"unCLIP does not serve a {type(request).__name__}; ask for another task.")

    def _imagined(self, part: Generate, rows: range, rng: Rng) -> Iterator[float | Begin]:
        """A prior's embedding, and noise (section 2)."""
        scale, z = self.config.prior.guidance, torch.empty(0)
        for done, found in self.prior.imagine(_texts(part), rng, scale, prior=part.prior):
            z = found
            yield THOUGHT * done
        yield self._begin(part, z, self._noise(part, rng), part.guided(self.config.guidance))

    def _varied(self, request: Vary, part: Generate, rows: range, rng: Rng) -> Iterator[float | Begin]:
        """The picture's own embedding, the noise that makes it, and fresh noise on the way (section 3.1).

        ``strength`` is DDIM's eta, from 0, where the picture comes back, to 1, where only what the embedding
        says of it is sure; there the walk sets out from noise of its own.
        """
        images = _turn(request.images, rows).to(self.device)
        z = self.prior.clip.encode_images(images).float()
        x = self._noise(part, rng)
        if request.strength < 1:
            x = self._inverted(images, z, part)
        eta = request.strength if part.solver in (None, "ddim") else None
        yield self._begin(replace(part, eta=eta), z, x, part.guided(1.0))

    def _changed(self, request: TextDiff, part: Generate, rows: range, rng: Rng) -> Iterator[float | Begin]:
        """Towards the difference of two texts, from the noise that makes the picture (section 3.3)."""
        source, target = self.prior.clip.encode_texts((request.source, request.target)).float()
        if torch.equal(source, target):
            raise UsageError(
                f"'{request.source}' and '{request.target}' do not differ; give two texts that do."
            )
        images = _turn(request.images, rows).to(self.device)
        z = self.prior.clip.encode_images(images).float()
        towards = normalize(target - source, dim=0).expand_as(z)
        share = torch.full((len(z),), request.theta)
        yield self._begin(
            part, between(z, towards, share, "slerp"), self._inverted(images, z, part), part.guided(1.0)
        )

    def _painted(self, request: Edit, part: Generate, rows: range, rng: Rng) -> Iterator[float | Begin]:
        """Inside a mask: what a prior imagines, or without words what the picture's own embedding says."""
        assert request.images is not None
        assert request.mask is not None
        images, mask = _turn(request.images, rows).to(self.device), _turn(request.mask, rows) >= 0.5
        *_, begin = self._imagined(part, rows, rng)
        assert isinstance(begin, Begin)
        if not request.prompt:
            begin = begin._replace(z=self.prior.clip.encode_images(images).float())
        steps, process = len(begin.times) - 1, self.config.process
        times = begin.times[steps - max(1, int(steps * request.strength)) :]
        x = begin.x if request.strength == 1 else process.noise(images, times[:1].expand(len(images)), rng)
        project = guidance.keep_outside(process, images, mask, rng, to_the_end=request.keep)
        solver = solvers.resampled(begin.solver, self.config.agree)
        yield begin._replace(x=x, times=times, solver=solver, project=project)

    def _begin(self, part: Generate, z: Tensor, x: Tensor, scale: float) -> Begin:
        c = self.config
        times = c.process.schedule.grid(part.steps or c.steps, part.spacing or c.spacing)
        return Begin(z, x, times, solvers.named(part.solver or c.solver, eta=part.eta), scale)

    def _noise(self, part: Generate, rng: Rng) -> Float[Tensor, "b c h w"]:
        size = part.height or self.config.height, part.width or self.config.width
        like = torch.empty(len(rng), self.channels, *size, device=self.device)
        return self.config.process.prior(like, rng)

    def _inverted(self, images: Tensor, z: Tensor, part: Generate) -> Float[Tensor, "b c h w"]:
        """The noise that makes pictures from their embeddings: DDIM the other way, without guidance, which
        would not lead back (section 3)."""
        c = self.config
        times = c.process.schedule.grid(part.steps or c.steps, c.spacing)
        *_, last = solvers.encode(guidance.conditioned(self.denoiser, told(z)), c.process, images, times)
        return last.x

    # --- walking -------------------------------------------------------------------------------------

    @torch.no_grad()
    def _serve(
        self, part: Generate, begin: Callable[..., Iterator[float | Begin]], rows: range
    ) -> Iterator[Event]:
        rng, thought = Rng.sampling(part.seed, part.count), 0.0
        for ready in begin(part, rows, rng):
            if isinstance(ready, float):
                thought = ready
                yield Progress(thought)
        assert isinstance(ready, Begin)
        for step in self._steps(ready, rng):
            done = 1 - step.t / float(ready.times[0])
            yield Progress(thought + (1 - thought) * done, partial(_shown, step.x0))
        texts = _texts(part)
        yield Images(_shown(step.x), captions=tuple(texts), notes=self.prior.clip.unread(texts))

    @torch.no_grad()
    def _interpolate(self, request: Interpolate) -> Iterator[Event]:
        """Along great circles between embeddings, and between the noises that make the pictures (section
        3.2)."""
        images, count = request.images.to(self.device), len(request.images)
        if count < 2 or request.frames < 1:
            raise UsageError(
                f"To interpolate takes 2 pictures or more and 1 frame or more between, got {count} and "
                f"{request.frames}."
            )
        part = _plain(request, images, count=count)
        z = self.prior.clip.encode_images(images).float()
        path = walk(z, request.frames, "slerp")
        if request.noise == "between":
            noises = walk(self._inverted(images, z, part), request.frames, "slerp")
        else:
            noises = self._noise(part, Rng([request.seed])).expand(len(path), *images.shape[1:])
        film: list[Tensor] = []
        for vectors, start in zip(
            path.split(self.config.chunk), noises.split(self.config.chunk), strict=True
        ):
            begin = self._begin(part, vectors, start, part.guided(1.0))
            *_, last = self._steps(begin, None)
            film.append(_shown(last.x))
            yield Progress(sum(map(len, film)) / len(path))
        yield Video(torch.cat(film)[None], rate=max(2.0, float(request.frames)), seeds=(request.seed,))

    def _steps(self, begin: Begin, rng: Rng | None) -> Iterator[Step]:
        z, x, times, solver, scale, project = begin
        denoise = guidance.classifier_free(self.denoiser, told(z), untold(z), scale)
        if scale != 1:  # unguided walks must lead back to where they came from
            denoise = guidance.clipped(denoise)
        return solver(denoise, self.config.process, x, times, rng=rng, project=project)


def _texts(part: Generate) -> list[str]:
    return in_turn((part.prompt,) if isinstance(part.prompt, str) else part.prompt, range(part.count))


def _plain(request: Any, images: Tensor, **more: Any) -> Generate:
    """A request that starts from pictures as one for new ones of their size."""
    height, width = images.shape[2:]
    told_of = {"seed": request.seed, "count": request.count, "steps": request.steps}
    return Generate(**told_of | {"guidance": request.guidance, "height": height, "width": width} | more)


def _masked(request: Edit) -> Generate:
    """The same, if there is a mask to paint inside."""
    if request.images is None or request.mask is None:
        raise UsageError(
            "This model paints inside a mask of a given picture; give both, or change whole pictures by the "
            "difference of two texts: sfumato textdiff."
        )
    if request.mask.shape[-2:] != request.images.shape[-2:]:
        sizes = [f"{x.shape[-2]} x {x.shape[-1]}" for x in (request.mask, request.images)]
        raise UsageError(
            f"The mask has {sizes[0]} pixels and the picture {sizes[1]}; give a mask of the picture's size."
        )
    if request.negative:
        raise UsageError("This model's decoder hears no words, so there are none to avoid.")
    _check_share("strength", request.strength)
    return _plain(request, request.images, prompt=request.prompt)


def _check_share(name: str, value: float, *, zero: bool = False) -> None:
    if not 0 <= value <= 1 or (value == 0 and not zero):
        raise UsageError(f"{name} must be {'from' if zero else 'above'} 0 and at most 1, got {value:g}.")


def _turn(given: Tensor, rows: range) -> Tensor:
    return given[[i % len(given) for i in rows]]


def _shown(x: Tensor) -> Tensor:
    return x.float().clamp(-1, 1)


PREVIEW_PROMPTS = ("a red circle", "a large green star", "a small yellow triangle", "a blue cross")
_CORNERS = UnclipPrior.presets["corners"]
_MUON = OptimConfig(kind="muon", lr=2e-3, betas=(0.9, 0.99), weight_decay=0.01, warmup=50, decay=0.5)
_SMALL = UNetConfig(
    widths=(48, 64, 80),
    blocks=(1,),
    attend=(False, False, True),
    heads=(4,),
    depth=(1,),
    context=64,
    resblock="scale_shift",
    groups=16,
    patch=2,
)
Unclip.presets = {
    "laptop": Preset(
        UnclipConfig(
            prior=_CORNERS.config,
            network=_SMALL,
            predicts="v",
            optim=_MUON,
            guidance=2.0,
        ),
        data=_CORNERS.data,
        size=_CORNERS.size,
        train=TrainConfig(steps=5000, batch=32, ema=0.998),
        base=("prior", "corners"),
    ),
    "paper": Preset(
        UnclipConfig(
            prior=UnclipPrior.presets["paper"].config,
            network=UNetConfig(
                widths=(512, 1024, 1536, 2048),
                blocks=(3,),
                attend=(False, True, True, True),
                head_width=64,
                depth=(1,),
                context=2048,
                resblock="scale_shift",
                resize="resblock",
            ),
            steps=250,
        ),
        data="folder",
        size=64,
        train=TrainConfig(steps=800_000, batch=2048, ema=0.9999),
        base=("prior", "paper"),
    ),
}
