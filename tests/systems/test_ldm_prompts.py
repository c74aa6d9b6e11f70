"""What prompts can say to latent diffusion: weights, mixtures, all of a long text; and pictures that tile."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.core.additions import Additions
from sfumato.core.request import Vary
from sfumato.errors import UsageError
from sfumato.nn.autoencoder import Autoencoder, AutoencoderConfig
from sfumato.nn.condition import Condition
from sfumato.nn.layers import circular
from sfumato.nn.unet import UNet, UNetConfig

from .test_ldm import CONFIG, answer, pixels, tiny


@pytest.fixture(scope="module")
def system():
    return tiny()


def test_a_weight_of_one_is_plain_and_zero_unsays(system):
    plain = pixels(system, prompt="a red circle", guidance=1.0)
    assert torch.allclose(pixels(system, prompt="a (red:1) circle", guidance=1.0), plain, atol=1e-5)
    loud = pixels(system, prompt="a (red:1.7) circle", guidance=1.0)
    assert (loud - plain).abs().max() > 0.003
    hushed = pixels(system, prompt="(a red circle:0)", guidance=1.0)
    assert (hushed - plain).abs().max() > 0.003


def test_weights_lie_on_a_line_through_the_empty_text(system):
    """What the denoiser reads of a weighed token."""
    reader = system.reader
    plain, empty, twice = (reader._say([t], False)[0].tokens for t in ("red", "", "(red:2)"))
    assert torch.allclose(twice[:, 0], empty[:, 0] + 2 * (plain - empty)[:, 0], atol=1e-5)
    assert torch.allclose(twice[:, 1:], plain[:, 1:], atol=1e-5), "only where the word stands"


def test_a_mixture_of_one_is_that_one(system):
    red = pixels(system, prompt="a red circle")
    assert torch.allclose(pixels(system, prompt="a red circle :: 3"), red, atol=1e-5)
    both = pixels(system, prompt="a red circle :: 1 a red circle :: 3")
    assert torch.allclose(both, red, atol=1e-4)
    assert torch.allclose(pixels(system, prompt="a red circle :: 1 a blue circle :: 0"), red, atol=1e-4)
    mixed = pixels(system, prompt="a red circle :: 1 a blue circle :: 1")
    blue = pixels(system, prompt="a blue circle")
    assert min((mixed - other).abs().max() for other in (red, blue)) > 0.01


def test_every_picture_may_have_a_mixture_of_its_own(system):
    prompts = ("a red circle :: 1 a blue circle :: 1", "a circle", "a :: 1 red :: 2 blue :: 1")
    together = answer(system, prompt=prompts, count=3, seed=5)
    assert together.captions == prompts
    for i, prompt in enumerate(prompts):
        alone = pixels(system, prompt=prompt, count=1, seed=5 + i)
        assert torch.allclose(together.pixels[i : i + 1], alone, atol=1e-4)


def test_a_long_prompt_is_read_whole_if_that_is_asked(system):
    long = "a red circle a a blue circle"  # five words fit
    cut = answer(system, prompt=long)
    assert cut.notes == (f"2 of the words of '{long}' could not be read and were left out.",)
    whole = answer(system, prompt=long, chunked=True)
    assert whole.notes == ()
    assert (whole.pixels - cut.pixels).abs().max() > 0.003
    assert torch.allclose(pixels(system, chunked=True), pixels(system), atol=1e-6), "one row is one row"


def test_what_is_left_out_of_a_negative_prompt_is_told(system):
    assert answer(system, negative="a dog").notes == (
        "1 of the words of 'a dog' could not be read and were left out.",
    )


def test_varying_strays_as_far_as_it_is_told(system):
    image = torch.rand(1, 3, 24, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1

    @torch.no_grad()
    def varied(strength):
        *_, last = system.run(Vary(images=image, strength=strength, count=2, steps=10, seed=4))
        return last.pixels

    with torch.no_grad():
        through = system.first_stage(image).clamp(-1, 1)
    apart = [(varied(s) - through).square().mean().item() for s in (0.1, 0.5, 1.0)]
    assert apart[0] < apart[1] < apart[2]


# --- tiles -------------------------------------------------------------------------------------------


def woken(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(2)
    for p in module.parameters():
        if p.ndim > 1:
            nn.init.normal_(p, std=p[0].numel() ** -0.5, generator=generator)
    return module.eval()


@torch.no_grad()
def rolls(module, compute, z, shift, grown) -> float:
    """How far rolling what goes in is from rolling what comes out."""
    moved = compute(z.roll(shift, (2, 3)))
    return (moved - compute(z).roll([round(s * grown) for s in shift], (2, 3))).abs().max().item()


def test_what_circular_networks_make_goes_on_at_the_opposite_edge():
    """Rolled in, rolled out: there is no edge to tell."""
    net = woken(
        UNet(UNetConfig(4, 4, (8, 16), (1,), (False, True), heads=(2,), depth=(1,), context=6, groups=4))
    )
    stage = woken(Autoencoder(AutoencoderConfig(widths=(8, 8), groups=4, blocks=1)))
    told = Condition(tokens=torch.ones(1, 3, 6))
    z = torch.randn(1, 4, 20, 24, generator=torch.Generator().manual_seed(1))
    x = torch.randn(1, 3, 20, 24, generator=torch.Generator().manual_seed(1))
    cases = [
        (net, lambda x: net(x, torch.tensor([5.0]), told), z, 1),
        (stage, stage.decode, z, 2),
        (stage, lambda x: stage.encode(x)[0], x, 0.5),
    ]
    for module, compute, given, grown in cases:
        assert rolls(module, compute, given, (2, -6), grown) > 0.05
    for module, compute, given, grown in cases:
        circular(module)
        assert rolls(module, compute, given, (2, -6), grown) < 1e-4


def test_a_transformer_does_not_tile():
    with pytest.raises(UsageError, match="knows where its edges are, so it cannot tile; leave --tile out"):
        tiny(CONFIG).take(Additions(tile=True))
