"""Pictures go through a network a few at a time, and come out as if all had gone together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sfumato.core.request import Images, Progress, Translate
from sfumato.core.translate import translated
from sfumato.errors import UsageError
from sfumato.nn.unet_p2p import TranslatorUNetConfig
from sfumato.systems.gans.pix2pix import Pix2Pix, Pix2PixConfig

SYSTEM = Pix2Pix(Pix2PixConfig(channels=1, generator=TranslatorUNetConfig(width=2, levels=2)))


def test_pictures_go_in_parts():
    seen: list[int] = []

    def doubled(x: Tensor) -> Tensor:
        seen.append(len(x))
        return 2 * x

    x = torch.linspace(-1, 1, 5 * 6).view(5, 1, 2, 3)
    *progress, answer = translated(SYSTEM, doubled, Translate(images=x, count=5, seed=3), 2)
    assert seen == [2, 2, 1]
    assert [event.done for event in progress if isinstance(event, Progress)] == [0.4, 0.8, 1.0]
    assert isinstance(answer, Images)
    assert torch.equal(answer.pixels, (2 * x).clamp(-1, 1))
    assert answer.seeds == (3, 4, 5, 6, 7)


def test_other_channels_are_refused():
    with pytest.raises(UsageError, match="translates pictures of 1 channels, got 3; convert them first"):
        list(translated(SYSTEM, nn.Identity(), Translate(images=torch.zeros(1, 3, 4, 4)), 2))
