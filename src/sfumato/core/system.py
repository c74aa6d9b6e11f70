"""A system is a set of networks with the losses that train them and the requests they serve."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core.additions import Additions
from sfumato.core.request import Event, Request
from sfumato.core.rng import Rng
from sfumato.data.dataset import Dataset, Facts
from sfumato.errors import UsageError

R = TypeVar("R", bound=Request)


@dataclass(frozen=True)
class OptimConfig:
    """How a player's parameters move."""

    kind: Literal["adamw", "muon"] = "adamw"
    """Muon takes the matrices (and flattened kernels); AdamW takes the rest, always."""
    lr: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of the joint gradient; 0 means no limit."""
    warmup: int = 0
    """Steps over which the learning rate grows from 0."""
    decay: float = 0.0
    """Share of all steps, at the end, over which the learning rate falls to 0."""


@dataclass(frozen=True)
class TrainConfig:
    """How long and how a system is trained."""

    steps: int = 1000
    batch: int = 64
    """Pictures a step, over all processes and accumulated parts."""
    accumulate: int = 1
    """Parts in which each process takes its share of the batch."""
    ema: float = 0.999
    """Decay of the moving average of the weights; 0 keeps none."""
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    log_every: int = 10
    save_every: int = 500

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "log_every", "save_every"):
            if (value := getattr(self, name)) < 1:
                raise UsageError(f"{name} must be at least 1, got {value}; leave it out for the preset's.")
        if self.seed < 0:
            raise UsageError(f"seed must be at least 0, got {self.seed}; choose another.")


@dataclass(frozen=True)
class Preset:
    """One way to train a system: its configuration, its data, and the run it builds on, if any."""

    config: Any
    data: str
    size: int
    """Height and width of the pictures it learns from, in pixels."""
    train: TrainConfig = TrainConfig()
    base: tuple[str, str] | None = None
    """(system, preset) that is trained first and then adopted, such as the first stage of a latent model."""
    base_data: str = ""
    """What that one learns from where this one learns from ``data``; empty means the same."""


class Batch(Mapping[str, Any]):
    """Fields of a few examples (``image``: (b, c, h, w) in [-1, 1], ``label``: (b,), ``caption``: b strings)
    and the random streams of these very examples."""

    def __init__(self, fields: Mapping[str, Any], rng: Rng):
        self._fields, self.rng = dict(fields), rng

    def __getitem__(self, key: str) -> Any:
        return self._fields[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def to(self, device: torch.device) -> Batch:
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in self._fields.items()}
        return Batch(moved, self.rng)


@dataclass(frozen=True)
class Player:
    """Networks that move together: one optimiser, one sign of the game.

    Name the modules whose ``forward`` is called: they are what is sharded over processes.
    """

    modules: tuple[nn.Module, ...]
    optim: OptimConfig
    ends: tuple[nn.Module, ...] = ()
    """Layers where data comes in and goes out; AdamW moves them even under "muon"."""

    def parameters(self) -> list[nn.Parameter]:
        return [p for m in self.modules for p in m.parameters() if p.requires_grad]


@dataclass(frozen=True)
class Loss:
    """What ``player`` should descend, and the named parts it is made of."""

    player: str
    value: Float[Tensor, ""]
    parts: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def sum(cls, player: str, **parts: Tensor) -> Loss:
        return cls(player, torch.stack(list(parts.values())).sum(), {k: v.detach() for k, v in parts.items()})


@dataclass(frozen=True)
class Portable:
    """A network that needs nothing of ours to run."""

    module: nn.Module
    """From pictures to pictures in grey levels 0 to 255, (1, c, h, w)."""
    multiple: int
    """Of which height and width are multiples."""


class System(nn.Module, abc.ABC, Generic[R]):
    """The networks of one paper, how they are trained, and what one may ask of them."""

    tasks: ClassVar[tuple[type[Request], ...]] = ()
    needs: ClassVar[frozenset[str]] = frozenset({"image"})
    """Fields of a batch without which it cannot learn."""
    presets: ClassVar[Mapping[str, Preset]] = {}
    """Ways to train it, the one for a laptop first."""
    Config: ClassVar[type]
    """Class of its configuration; the constructor takes one."""
    pipelines: ClassVar[tuple[str, ...]] = ()
    """Names of the diffusers pipelines and transformers models whose folders it reads and writes."""
    published: ClassVar[frozenset[str]] = frozenset()
    """Names of tensors; a public weight file (``.pth``) that holds one of them is read by ``from_file``."""
    stands_on: ClassVar[str] = ""
    """The system whose networks it uses as they are, with nothing of its own to train; empty for others."""
    config: Any

    @classmethod
    @abc.abstractmethod
    def fit(cls, config: Any, facts: Facts) -> Any:
        """The same configuration for the pictures, classes and words of a dataset."""

    @abc.abstractmethod
    def players(self) -> dict[str, Player]:
        """Name the players; the trainer builds one optimiser for each."""

    @abc.abstractmethod
    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        """Yield losses in the order in which the players move.

        The trainer updates the named player before it resumes the generator, so the lines after a
        ``yield`` see new weights. Which players move may depend on ``step`` and the configuration,
        never on the data: all processes must yield the same sequence. All randomness comes from
        ``batch.rng``.
        """

    @abc.abstractmethod
    def run(self, request: R) -> Iterator[Event]:
        """Serve a request: any number of ``Progress``, then one result."""

    def preview(self, count: int, seed: int) -> R | None:
        """The request whose answer shows how training goes; None if there is nothing to see."""
        return None

    @property
    def can(self) -> tuple[type[Request], ...]:
        """The requests that this very model serves: those of its kind, unless its weights are for others."""
        return self.tasks

    @property
    def hears(self) -> frozenset[str]:
        """What of a request it follows: ``label``, ``caption``, ``truncation``, ``style``, or nothing."""
        return frozenset()

    def adopt(self, base: System[Any]) -> None:
        """Take over what a preset's ``base`` has learned."""
        raise UsageError(f"{type(self).__name__} builds on no other system; leave the base out.")

    @classmethod
    def built_on(cls, config: Any, base: System[Any]) -> Any:  # noqa: ARG003 - for those that differ with it
        """The same configuration for a base that the user chose."""
        return config

    @classmethod
    def suited(cls, base: System[Any]) -> Any:  # noqa: ARG003 - for those that stand on one
        """The configuration with which it can adopt the system that it ``stands_on``."""
        raise UsageError(f"{cls.__name__} has networks of its own; train it, or give a run.")

    def prepare(self, data: Dataset) -> Dataset:
        """Compute once, before training, what does not change while it lasts (latents, for example)."""
        return data

    def take(self, more: Additions) -> None:
        """Take up what a user lays beside the model for one run; nothing of it is written."""
        raise UsageError(
            f"{type(self).__name__} takes no LoRA, no textual inversion, no refiner, and does not tile; "
            "leave them out."
        )

    @classmethod
    def from_diffusers(cls, folder: Path) -> System[Any]:
        """Build the system from a folder of diffusers or transformers."""
        raise UsageError(f"{cls.__name__} has no diffusers format, so it cannot read '{folder}'; give a run.")

    def to_diffusers(self, folder: Path) -> None:
        """Write the system as a folder of diffusers or transformers."""
        raise UsageError(
            f"{type(self).__name__} has no diffusers format, so it cannot fill '{folder}'; its run folder "
            "holds its weights as safetensors."
        )

    @classmethod
    def from_file(cls, path: Path) -> System[Any]:
        """Build the system from a public weight file, or from a folder of such files."""
        raise UsageError(f"{cls.__name__} has no weight files of its own, so it cannot read '{path}'.")

    def portable(self) -> Portable:
        """What it does to pictures as one module, for other programs."""
        raise UsageError(
            f"{type(self).__name__} is no single network from pictures to pictures, which is all that ONNX "
            "files hold; export it as a folder, or export another system, such as faststyle."
        )

    def to_file(self, path: Path) -> None:
        """Write the system as a public weight file."""
        raise UsageError(f"{type(self).__name__} has no weight files of its own, so it cannot be '{path}'.")

    @property
    def channels(self) -> int:
        """Of the pictures it takes and makes: what files are turned into before they come here."""
        return int(self.config.channels)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; sampling computes in it."""
        return next(self.parameters()).dtype
