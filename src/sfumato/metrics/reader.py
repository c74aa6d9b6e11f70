"""What all readers of drawn worlds share: how pictures come in, how features come out, how they are stored.

Of every world there are two readers, which share no seed and no width: a judge, which scores results and
refuses to be trained against, and one that a training may look at. Whoever trains against a judge has no
judge left.
"""

from __future__ import annotations

import abc
import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sfumato.errors import DataError, UsageError

SIDE = 64
"""Pixels a side at which pictures are read; others are scaled to it."""
FOLDER = Path(__file__).parent.parent / "weights" / "oracles"
CHUNK = 256
"""Pictures read at once."""


@dataclasses.dataclass(frozen=True)
class OracleConfig:
    """How wide a reader is."""

    channels: int = 24
    features: int = 128


class Reader(nn.Module, abc.ABC):
    """A network that reads pictures of a drawn world back."""

    world: ClassVar[str]
    """Name of the dataset whose pictures it reads."""
    grain: ClassVar[tuple[tuple[int, int], ...]]
    """Of each stage: how many times ``config.channels`` it has, and how many pixels a side make one place."""
    scale: Tensor

    def __init__(self, config: OracleConfig, name: str, *, judge: bool = False):
        super().__init__()
        self.config, self.name, self.judge = config, name, judge
        self.register_buffer("scale", torch.ones(()))

    @abc.abstractmethod
    def seen(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """The last hidden layer of every picture, as it is."""

    @abc.abstractmethod
    def stages(self, pixels: Float[Tensor, "n c h w"], side: int = SIDE) -> list[Tensor]:
        """Maps after the convolutions, fine to coarse, of pictures scaled to ``side``: for critics."""

    @abc.abstractmethod
    def ends(self) -> tuple[nn.Module, ...]:
        """Layers where pictures come in and answers go out."""

    def admitted(self, pixels: Float[Tensor, "n c h w"], side: int = SIDE) -> Float[Tensor, "n 3 s s"]:
        """Pictures as the network wants them; a judge refuses those that carry a gradient."""
        if self.judge and pixels.requires_grad:
            raise UsageError(
                f"The oracle '{self.name}' judges results, so no training may follow its gradient; "
                "use the training oracle, or detach the pictures to measure them."
            )
        if pixels.shape[1] not in (1, 3):
            raise DataError(f"The oracle reads pictures of 1 or 3 channels, got {pixels.shape[1]}; give RGB.")
        x = pixels.float().expand(-1, 3, -1, -1)
        if x.shape[2:] != (side, side):
            x = interpolate(x, (side, side), mode="bilinear", antialias=True)
        return x

    def features(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """The last hidden layer with a root mean square of 1 over real pictures: a space for distances.

        The scale belongs to the space: a kernel distance changes with it.
        """
        self.admitted(pixels[:1])
        with torch.no_grad():
            parts = [self.seen(part) * self.scale for part in pixels.split(CHUNK)]
        return torch.cat(parts) if parts else pixels.new_zeros(0, self.config.features)

    def set_scale(self, real: Float[Tensor, "n c h w"]) -> None:
        """Fix the scale of the features by real pictures."""
        self.scale.fill_(1.0)
        self.scale.fill_(1 / float(self.features(real).square().mean().sqrt()))


R = TypeVar("R", bound=Reader)


def load_reader(path: Path, kind: type[R], training: str, **role: Any) -> R:
    """Read a reader from a file that ``save_reader`` wrote; it does not train any more."""
    try:
        with safe_open(path, "pt") as file:
            config = OracleConfig(**json.loads((file.metadata() or {})["oracle"]))
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        with torch.device("meta"):  # Without first weights, which would be drawn from the global generator.
            oracle = kind(config, f"{kind.world} ({path.stem})", **role)
        oracle.load_state_dict(tensors, assign=True)
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"'{path}' is no oracle ({error}); train one with python -m {training}.") from error
    return oracle.eval().requires_grad_(False)


def save_reader(oracle: Reader, path: Path) -> None:
    """Write the weights in half precision, with the width beside them."""
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in oracle.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata={"oracle": json.dumps(dataclasses.asdict(oracle.config))})
