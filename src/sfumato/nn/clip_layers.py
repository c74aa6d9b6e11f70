"""The transformer that both towers of CLIP are made of, with transformers' parameter names."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from sfumato.nn.attention import attention
from sfumato.nn.layers import Linear, QuickGELU

Activation = Literal["quick_gelu", "gelu"]


@runtime_checkable
class TowerConfig(Protocol):
    """What the layers of a tower must be told."""

    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def activation(self) -> Activation: ...
    @property
    def eps(self) -> float: ...


class Encoder(nn.Module):
    """Pre-norm layers of attention and feed-forward (Radford et al. 2021, section 2.4)."""

    def __init__(self, config: TowerConfig):
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))

    def forward(
        self, x: Float[Tensor, "b l d"], mask: Float[Tensor, "l l"] | None = None, *, skip: int = 0
    ) -> Float[Tensor, "b l d"]:
        """All layers but the last ``skip``; ``mask`` as in ``attention``."""
        *_, x = islice(self.states(x, mask), 1 + len(self.layers) - skip)
        return x

    def states(
        self, x: Float[Tensor, "b l d"], mask: Float[Tensor, "l l"] | None = None
    ) -> Iterator[Float[Tensor, "b l d"]]:
        """What goes into the first layer, then what comes out of each."""
        yield x
        for layer in self.layers:
            x = layer(x, mask)
            yield x


class _Layer(nn.Module):
    def __init__(self, config: TowerConfig):
        super().__init__()
        self.self_attn = _Attention(config)
        self.layer_norm1 = nn.LayerNorm(config.width, eps=config.eps)
        self.mlp = _FeedForward(config)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=config.eps)

    def forward(self, x: Float[Tensor, "b l d"], mask: Float[Tensor, "l l"] | None) -> Float[Tensor, "b l d"]:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class _Attention(nn.Module):
    def __init__(self, config: TowerConfig):
        super().__init__()
        self.heads = config.heads
        self.q_proj = Linear(config.width, config.width)
        self.k_proj = Linear(config.width, config.width)
        self.v_proj = Linear(config.width, config.width)
        self.out_proj = Linear(config.width, config.width)

    def forward(self, x: Float[Tensor, "b l d"], mask: Float[Tensor, "l l"] | None) -> Float[Tensor, "b l d"]:
        q, k, v = (self._split(part(x)) for part in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attention(q, k, v, mask).transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class _FeedForward(nn.Module):
    def __init__(self, config: TowerConfig):
        super().__init__()
        self.activation = QuickGELU() if config.activation == "quick_gelu" else nn.GELU()
        self.fc1 = Linear(config.width, config.hidden)
        self.fc2 = Linear(config.hidden, config.width)

    def forward(self, x: Float[Tensor, "b l d"]) -> Float[Tensor, "b l d"]:
        return self.fc2(self.activation(self.fc1(x)))


def initialise(encoder: Encoder, config: TowerConfig) -> None:
    """CLIP's own initialisation: residual branches shrink with the depth."""
    width, branch = config.width, (2 * config.layers) ** -0.5
    for module in encoder.modules():
        if isinstance(module, _Attention):
            for part in (module.q_proj, module.k_proj, module.v_proj):
                nn.init.normal_(part.weight, std=width**-0.5)
            nn.init.normal_(module.out_proj.weight, std=width**-0.5 * branch)
        elif isinstance(module, _FeedForward):
            nn.init.normal_(module.fc1.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(module.fc2.weight, std=width**-0.5 * branch)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
