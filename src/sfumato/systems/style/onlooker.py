"""What systems have in common that look through a VGG and change pictures until they like what they see."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, pad

from sfumato.core.request import Request
from sfumato.core.system import Batch, Loss, Player, System
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.vgg import VGG
from sfumato.systems.style.vgg import VGGNet, VGGNetConfig

R = TypeVar("R", bound=Request)
MEMORY = 6e9
"""Bytes that maps and their gradients may take."""
_FLOAT = 4


class Onlooker(System[R], abc.ABC):
    """A frozen VGG; nothing to train."""

    stands_on: ClassVar[str] = "vgg"
    config: Any

    def __init__(self, config: Any):
        super().__init__()
        self.config = config
        self.network = VGG(config.network).requires_grad_(False)

    @classmethod
    @abc.abstractmethod
    def looking(cls, base: VGGNetConfig) -> Any:
        """The configuration for a network of this shape."""

    @classmethod
    def suited(cls, base: System[Any]) -> Any:
        if not isinstance(base, VGGNet):
            raise UsageError(
                f"{cls.__name__} looks through a VGG, not a {type(base).__name__}; give a run of vgg, or a "
                "public weight file of one."
            )
        return cls.looking(base.config)

    @classmethod
    def upon(cls, base: VGGNet) -> Onlooker[R]:
        """Look through a trained VGG."""
        system = cls(cls.suited(base))
        system.adopt(base)
        return system.to(base.device, base.dtype).eval()

    def adopt(self, base: System[Any]) -> None:
        """Take over the network of a trained VGG, without a classifier if it has use for none."""
        assert isinstance(base, VGGNet)
        wanted = self.network.state_dict().keys()
        self.network.load_state_dict({k: v for k, v in base.network.state_dict().items() if k in wanted})

    def players(self) -> dict[str, Player]:
        return {}

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        yield from ()

    def maps(self, x: Float[Tensor, "n c h w"], taps: tuple[str, ...]) -> dict[str, Tensor]:
        """Named maps in single precision; grey pictures count as colourless."""
        seen = self.network(x.expand(-1, 3, -1, -1).to(self.device, self.dtype), taps)
        return {tap: seen[tap].float() for tap in taps}

    def check_memory(self, height: int, width: int) -> None:
        """Refuse pictures whose maps would not fit into memory, before anything is computed."""
        shape = self.config.network
        a_pixel = sum(
            2 * convs * wide / 4**stage
            for stage, (wide, convs) in enumerate(zip(shape.widths, shape.convs, strict=True))
        )
        needed = _FLOAT * a_pixel * height * width
        if needed > MEMORY:
            side = int((MEMORY / (_FLOAT * a_pixel)) ** 0.5)
            raise UsageError(
                f"Through this network, pictures of {height} x {width} pixels take about {needed / 1e9:.0f} "
                f"GB of memory, and {MEMORY / 1e9:.0f} are allowed; scale them down to about {side} x {side}."
            )


def colours(facts: Facts) -> int:
    """Channels of a dataset's pictures, if a VGG can see them."""
    if facts.channels not in (1, 3):
        raise UsageError(
            f"A VGG sees pictures of 1 or 3 channels, '{facts.name}' has {facts.channels}; choose other data."
        )
    return facts.channels


def at_least(x: Float[Tensor, "n c h w"], side: int) -> Float[Tensor, "n c i j"]:
    """Pictures continued by their last row and column until no side is shorter."""
    missing = [max(0, side - length) for length in x.shape[2:]]
    return pad(x, (0, missing[1], 0, missing[0]), mode="replicate") if any(missing) else x


def scaled(x: Float[Tensor, "n c h w"], height: int, width: int) -> Float[Tensor, "n c i j"]:
    """Pictures at another size, without aliasing."""
    if x.shape[2:] == (height, width):
        return x
    return interpolate(x, (height, width), mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)
