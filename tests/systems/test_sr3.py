"""SR3: the bicubic enlargement beside the noise, and a walk that any number of steps will do for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.core.request import Images, Upscale
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.srresnet import enlarged, reduced
from sfumato.nn.unet import UNetConfig
from sfumato.systems.diffusion.sr3 import SR3, SR3Config
from sfumato.systems.gans.srgan import whole_levels

CONFIG = SR3Config(
    network=UNetConfig(widths=(8, 16), blocks=(1,), groups=4, middle_attention=False, patch=4), steps=3
)
SMALL = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def system() -> SR3:
    torch.manual_seed(0)
    return SR3(CONFIG).eval()


@torch.no_grad()
def answer(system: SR3, **request: object) -> Images:
    *_, result = system.run(Upscale(**{"images": SMALL, "count": 2, "seed": 4} | request))
    assert isinstance(result, Images)
    return result


def test_pictures_grow_fourfold_and_each_has_its_own_chance(system):
    made = answer(system)
    assert made.pixels.shape == (2, 3, 20, 28)
    assert made.seeds == (4, 5)
    again = answer(system, images=SMALL[1:], count=1, seed=5)
    assert (again.pixels - made.pixels[1:]).abs().max() < 1e-4
    assert (answer(system, seed=5).pixels - made.pixels).abs().max() > 0.1


def test_one_picture_can_be_enlarged_in_many_ways(system):
    many = answer(system, images=SMALL[:1], count=3).pixels
    assert len(many) == 3
    assert (many[0] - many[1]).abs().max() > 0.1


@pytest.mark.parametrize("serving", [False, True])
def test_the_bicubic_enlargement_is_seen(system, serving):
    given = []
    hook = system.denoiser.network.register_forward_pre_hook(
        lambda _, inputs: given.append(inputs[2].spatial)
    )
    large = enlarged(SMALL, "bicubic").clamp(-1, 1)
    try:
        if serving:
            answer(system)
        else:
            # 21 rows do not fold into four: the last is left out.
            odd = torch.nn.functional.pad(large, (0, 0, 0, 1))
            [loss] = system.losses(Batch({"image": odd}, Rng.training(0, 0, range(2))), 0)
            assert loss.value.isfinite()
    finally:
        hook.remove()
    wanted = large if serving else enlarged(whole_levels(reduced(large)), "bicubic").clamp(-1, 1)
    torch.testing.assert_close(given[-1], wanted)


def test_a_perfect_denoiser_gives_the_picture_back_whatever_the_steps(monkeypatch, system):
    """It knows the picture, so its walk must end there, with three steps or with thirty."""
    real = torch.rand(2, 3, 20, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1
    process, denoiser = system.config.process, system.denoiser

    def knowing(x, clock, cond):
        alpha = (clock / 1000).double().view(-1, 1, 1, 1)
        return ((x - alpha * real) / (1 - alpha**2).sqrt()).float()

    assert system.config.predicts == "eps"
    monkeypatch.setattr(denoiser.network, "forward", knowing)
    assert process.schedule.steps == 2000
    for steps in (3, 30):
        assert (answer(system, steps=steps).pixels - real).abs().max() < 1e-2


def test_what_it_cannot_do_is_refused(system):
    with pytest.raises(UsageError, match="enlarges pictures of 3 channels, got 1; convert them first"):
        answer(system, images=SMALL[:, :1])
    with pytest.raises(UsageError, match="knows no noise; leave it out"):
        answer(system, noise=4)
    with pytest.raises(UsageError, match="trained without words"):
        answer(system, prompt="a red circle")
    with pytest.raises(UsageError, match="pictures must have 8 pixels a side or more, got 7 x 40"):
        SR3.fit(CONFIG, Facts("thin", 3, 7, 40, frozenset({"image"})))
    assert SR3.fit(replace(CONFIG, channels=1), Facts("large", 3, 16, 40, frozenset())).channels == 3
