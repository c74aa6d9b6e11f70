"""Pictures through a network that answers with pictures, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from sfumato.core.request import Event, Images, Progress, Translate
from sfumato.core.system import System
from sfumato.errors import UsageError


def translated(
    system: System[Any], network: Callable[[Tensor], Tensor], request: Translate, size: int
) -> Iterator[Event]:
    """Serve a request by a network without chance: each picture's answer depends on that picture alone.

    Raises ``UsageError`` for pictures whose channels the system does not know.
    """
    x = request.images
    if x.shape[1] != system.channels:
        raise UsageError(
            f"This model translates pictures of {system.channels} channels, got {x.shape[1]}; "
            "convert them first."
        )
    answers: list[Tensor] = []
    for part in x.split(size):
        with torch.no_grad():
            answers.append(network(part.to(system.device, system.dtype)).float().clamp(-1, 1))
        yield Progress(sum(len(answer) for answer in answers) / len(x))
    yield Images(torch.cat(answers), seeds=tuple(range(request.seed, request.seed + len(x))))
