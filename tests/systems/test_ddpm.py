"""Diffusion over pixels: labels by name and number, withheld now and then, and followed with guidance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfumato.core import guidance, solvers
from sfumato.core.request import Generate, Images, Progress
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, System
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.unet import UNetConfig
from sfumato.systems.diffusion.ddpm import DDPM, DDPMConfig

CLASSES = ("boot", "7", "coat")
NETWORK = UNetConfig(widths=(8, 16), blocks=(1,), groups=4, middle_attention=False)
PLAIN = DDPMConfig(channels=2, height=8, width=12, network=NETWORK, solver="ddim", steps=4)
BY_LABEL = replace(PLAIN, by_label=True, classes=CLASSES)


def tiny(config: DDPMConfig = BY_LABEL) -> DDPM:
    """A network in which nothing is zero, so that all it is told shows."""
    torch.manual_seed(2)
    system = DDPM(config).eval()
    for p in system.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=1.5 / p[0].numel() ** 0.5)
    return system


@pytest.fixture(scope="module")
def system() -> DDPM:
    return tiny()


@torch.no_grad()
def answer(system: DDPM, **request: object) -> Tensor:
    *_, result = system.run(Generate(**{"count": 2, "seed": 3} | request))
    assert isinstance(result, Images)
    return result.pixels


def test_labels_go_by_name_by_number_and_in_turn(system):
    boots = answer(system, label="boot")
    assert torch.equal(boots, answer(system, label=0))
    assert torch.equal(boots, answer(system, label="0"))
    assert not torch.equal(boots, answer(system, label="coat"))
    assert torch.equal(answer(system, label="7"), answer(system, label=1)), "a name goes before a number"
    both = answer(system, label=("boot", 2))
    assert torch.allclose(both[0], boots[0], atol=1e-5)
    assert torch.allclose(both[1], answer(system, label="coat")[1], atol=1e-5)


@pytest.mark.parametrize(
    ("label", "match"),
    [
        ("boots", "Unknown label 'boots'; did you mean 'boot'?"),
        ("zebra", "Unknown label 'zebra'; choose from 7, boot, coat"),
        (3, "Label 3 is out of range; this model knows 0 to 2"),
        (-1, "Label -1 is out of range"),
        ("12", "Label 12 is out of range"),
    ],
)
def test_labels_it_does_not_know_are_refused(system, label, match):
    with pytest.raises(UsageError, match=match.replace("?", r"\?")):
        answer(system, label=label)


def test_what_it_was_not_trained_to_follow_is_refused(system):
    with pytest.raises(UsageError, match="trained without labels; leave the label out"):
        answer(tiny(PLAIN), label=0)
    with pytest.raises(UsageError, match="trained without words; leave the prompt out"):
        answer(tiny(PLAIN), prompt="a boot")
    with pytest.raises(UsageError, match="trained without words; say what to show by its label"):
        answer(system, negative="a boot")


def test_data_without_labels_cannot_be_learned_by_label():
    with pytest.raises(UsageError, match="This preset learns by label, but 'clouds' has no labels"):
        DDPM.fit(BY_LABEL, Facts("clouds", 3, 8, 8, frozenset({"image"})))


@torch.no_grad()
def alone(system: DDPM, told: Callable[[int], Tensor]) -> Tensor:
    """Two pictures by the solver itself, without the system: ``told`` is the vector of the condition."""
    process, shape = system.config.process, (2, 2, 8, 12)
    x = process.prior(torch.empty(shape), Rng.sampling(3, 2))
    cond = replace(system._untold(2), vector=told(2))
    denoise = guidance.clipped(guidance.conditioned(system.denoiser, cond))
    *_, last = solvers.ddim(denoise, process, x, process.schedule.grid(4, "leading"))
    return last.x.clamp(-1, 1)


def test_guidance_of_one_is_no_guidance_and_of_zero_no_label(system):
    boots = alone(system, lambda n: torch.eye(3)[:1].expand(n, -1))
    nothing = alone(system, lambda n: torch.zeros(n, 3))
    assert torch.equal(answer(system, label=0, guidance=1.0), boots)
    assert torch.equal(answer(system), nothing)
    assert torch.allclose(answer(system, label=0, guidance=0.0), nothing, atol=1e-4)
    strong = answer(system, label=0, guidance=4.0)
    assert (strong - boots).abs().max() > 0.01
    assert torch.equal(answer(system, label=0, guidance=3.0, guidance_convention="excess"), strong)


def heard(system: System, module: torch.nn.Module, batch: Batch) -> list[tuple[Tensor, ...]]:
    """What ``module`` is given while the system computes its losses."""
    given: list[tuple[Tensor, ...]] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    for _ in system.losses(batch, 0):
        pass
    hook.remove()
    return given


@pytest.mark.parametrize("drop", [0.0, 0.3])
def test_labels_are_withheld_at_the_declared_rate(drop):
    system, n = tiny(replace(BY_LABEL, drop=drop)), 400
    label = torch.arange(n) % 3
    batch = Batch({"image": torch.zeros(n, 2, 4, 4), "label": label}, Rng.training(0, 0, range(n)))
    [(_, clock, cond)] = heard(system, system.denoiser.network, batch)
    told = cond.vector.sum(1) > 0
    assert torch.equal(cond.vector[told].argmax(1), label[told])
    spread = (drop * (1 - drop) / n) ** 0.5
    assert abs(1 - told.float().mean().item() - drop) <= 3 * spread
    assert 0 <= clock.min() < 50 < 950 < clock.max() <= 999


def test_any_size_can_be_asked_for(system):
    assert answer(system, height=12, width=10, count=1).shape == (1, 2, 12, 10)
    folded = tiny(replace(PLAIN, network=replace(NETWORK, patch=2)))
    with pytest.raises(UsageError, match=r"must be multiples of 2, got \(9, 12\)"):
        answer(folded, height=9)


def test_its_own_way_of_sampling_is_the_default(system):
    same = answer(system, steps=4, solver="ddim", spacing="leading", eta=0.0)
    assert torch.equal(answer(system), same)
    for change in ({"steps": 5}, {"solver": "heun"}, {"spacing": "trailing"}, {"eta": 0.5}):
        assert not torch.equal(answer(system, **change), same), change


def test_beliefs_stay_where_pictures_live(system):
    free = tiny(replace(BY_LABEL, clip=False))
    looks = {}
    for name, each in (("clipped", system), ("free", free)):
        events = list(each.run(Generate(count=2, seed=3)))
        looks[name] = max(
            event.preview().abs().max().item() for event in events if isinstance(event, Progress)
        )
    assert looks["clipped"] <= 1 < looks["free"]


def test_a_preview_shows_every_class_in_turn(system):
    assert system.preview(5, 9) == Generate(count=5, seed=9, steps=50, solver="ddim", label=(0, 1, 2))
    assert tiny(PLAIN).preview(5, 9).label is None
