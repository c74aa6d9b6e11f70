"""Layers and networks of StyleGAN against scipy, closed forms, and the published numbers of parameters."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from scipy.signal import upfirdn
from torch import nn
from torch.nn.functional import conv2d, interpolate, leaky_relu

from sfumato.errors import UsageError
from sfumato.nn.stylegan import Adaptive, Demodulated, Mapping, Plain, StyleConfig, Synthesis
from sfumato.nn.stylegan_critic import StyleCritic, minibatch_std
from sfumato.nn.stylegan_layers import (
    EqualConv,
    EqualLinear,
    adain,
    convolve_down,
    convolve_up,
    doubled,
    fir,
    halved,
    modulated,
    pixel_norm,
    recoloured,
    smooth,
)

TAPS = [(1, 1), (1, 3, 3, 1)]
SMALL = StyleConfig(channels=2, height=24, width=40, z=5, w=6, mapping=2, base=32, most=7)
GROWN = replace(SMALL, norm="adain", skip=False, residual=False, grows=True)


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def seeded(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


# --- resampling --------------------------------------------------------------------------------------


def filtered(x: torch.Tensor, taps: tuple[int, ...], *, up: int, down: int, front: int) -> torch.Tensor:
    """scipy's upfirdn along both sides, cut so that the first result sees ``front`` zeros."""
    line, y = [tap / sum(taps) * up for tap in taps], x.numpy()
    for axis in (2, 3):
        length = y.shape[axis] * up // down
        y = upfirdn(line, y, up=up, axis=axis)
        start = len(taps) - 1 - front
        y = y.take(range(start, start + (length - 1) * down + 1, down), axis=axis)
    return torch.from_numpy(y)


@pytest.mark.parametrize("taps", TAPS)
def test_resampling_is_that_of_scipy(taps):
    x, kernel = seeded(2, 3, 6, 10).double(), fir(taps).double()
    half = len(taps) // 2
    assert torch.allclose(doubled(x, kernel), filtered(x, taps, up=2, down=1, front=half))
    assert torch.allclose(halved(x, kernel), filtered(x, taps, up=1, down=2, front=half - 1))


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("operation", ["smooth", "halved", "doubled"])
def test_filters_can_be_differentiated_twice(taps, operation):
    kernel = fir(taps).double()
    run = {
        "smooth": lambda x: smooth(x, kernel, 1),
        "halved": lambda x: halved(x, kernel),
        "doubled": lambda x: doubled(x, kernel),
    }[operation]
    x = seeded(1, 2, 4, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(run, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, x, fast_mode=True)


def test_filters_keep_half_precision():
    x, kernel = seeded(2, 3, 6, 10), fir((1, 3, 3, 1))
    for run in (doubled, halved):
        assert run(x.bfloat16(), kernel).dtype == torch.bfloat16
        assert torch.allclose(run(x.bfloat16(), kernel).float(), run(x, kernel), atol=0.03)


@pytest.mark.parametrize("taps", TAPS)
def test_resampling_convolutions_are_a_filter_and_a_convolution(taps):
    x, weight, kernel = seeded(2, 3, 6, 10), seeded(4, 3, 3, 3), fir(taps)
    up = conv2d(doubled(x, kernel), weight.flip(2, 3), padding=1)
    assert torch.allclose(convolve_up(x, weight, kernel)[..., 1:-1, 1:-1], up[..., 1:-1, 1:-1], atol=1e-5)
    wide = conv2d(smooth(x, kernel, len(taps) // 2), weight)
    assert torch.allclose(convolve_down(x, weight, kernel), wide[..., ::2, ::2], atol=1e-5)


def test_nearest_neighbours_convolution_and_blur_are_one_filter():
    """StyleGAN 1 in its own words, where the border is out of sight."""
    x, weight = seeded(2, 3, 6, 10), seeded(4, 3, 3, 3)
    theirs = smooth(conv2d(interpolate(x, scale_factor=2), weight, padding=1), fir((1, 2, 1)), 1)
    ours = convolve_up(x, weight.flip(2, 3), fir((1, 3, 3, 1)))
    assert torch.allclose(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], atol=1e-5)


# --- layers ------------------------------------------------------------------------------------------


def test_pixel_norm_has_root_mean_square_one():
    x = 7 * seeded(2, 5, 3, 4)
    assert torch.allclose(pixel_norm(x).square().mean(1), torch.ones(2, 3, 4), atol=1e-5)


@pytest.mark.parametrize("lr_mul", [1.0, 0.01])
def test_all_layers_start_with_unit_outputs_and_learn_at_one_pace(lr_mul):
    """A step of Adam changes the weights in use by the same share of their deviation, however many inputs."""
    torch.manual_seed(0)
    paces = []
    for inside in (9, 9 * 64):
        layer = EqualLinear(inside, 200, lr_mul=lr_mul)
        x = seeded(300, inside)
        assert layer(x).std().item() == pytest.approx(1, abs=0.05)
        used = layer.weight.detach() * layer.scale
        layer(x).sum().backward()
        moved = layer.weight - 0.001 * layer.weight.grad.sign()  # Adam's first step
        paces.append(((moved * layer.scale - used).abs().mean() / used.std()).item())
    assert paces[0] == pytest.approx(paces[1], rel=0.05)
    assert paces[0] == pytest.approx(0.001 * lr_mul, rel=0.05)


@pytest.mark.parametrize("resample", [None, "down"])
@pytest.mark.parametrize("size", [1, 3])
def test_equal_convolutions_are_convolutions(size, resample):
    torch.manual_seed(0)
    conv = EqualConv(3, 4, size, resample=resample, gain=2.0)
    nn.init.normal_(conv.bias)
    x = seeded(2, 3, 6, 10)
    weight = conv.weight * 2 / (3 * size**2) ** 0.5
    kernel = fir((1, 3, 3, 1))
    blurred = smooth(x, kernel, 2) if resample else x
    wanted = conv2d(blurred, weight, 2 * conv.bias, padding=0 if resample else size // 2)
    if resample:
        wanted = wanted[..., 1 - size // 2 :: 2, 1 - size // 2 :: 2]
        wanted = wanted[..., : x.shape[2] // 2, : x.shape[3] // 2]
    assert torch.allclose(conv(x), wanted, atol=1e-5)


@pytest.mark.parametrize("up", [False, True])
def test_modulation_is_a_convolution_with_the_weights_of_each_example(up):
    """Grouped convolutions, as equations 1 and 3 are usually written down."""
    x, weight, style = seeded(3, 4, 5, 7), seeded(6, 4, 3, 3), seeded(3, 4)
    kernel = fir((1, 3, 3, 1)) if up else None
    for i in range(3):
        own = weight * style[i].view(1, -1, 1, 1)
        own = own * (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        one = x[i : i + 1]
        wanted = conv2d(one, own, padding=1) if kernel is None else convolve_up(one, own, kernel)
        assert torch.allclose(modulated(x, weight, style, up=kernel)[i], wanted[0], atol=1e-5)


def test_demodulation_forgets_the_size_of_styles():
    x, weight, style = seeded(3, 4, 5, 7), seeded(6, 4, 3, 3), seeded(3, 4)
    one, other = (modulated(x, weight, factor * style) for factor in (1, 100))
    assert torch.allclose(one, other, atol=1e-5)
    assert torch.allclose(other.std(), torch.tensor(1.0), atol=0.2)


def test_recolouring_takes_a_matrix_an_example():
    x, weight = seeded(2, 3, 4, 5), seeded(2, 6, 3)
    for i in range(2):
        wanted = conv2d(x[i : i + 1], weight[i, :, :, None, None])[0]
        assert torch.allclose(recoloured(x, weight, None)[i], wanted, atol=1e-5)


def test_adain_gives_every_channel_its_mean_and_deviation():
    x, style = 3 + 2 * seeded(2, 5, 6, 7), seeded(2, 10)
    y = adain(x, style)
    assert torch.allclose(y.mean((2, 3)), style[:, 5:], atol=1e-5)
    assert torch.allclose(y.std((2, 3), correction=0), (1 + style[:, :5]).abs(), atol=1e-4)
    assert torch.allclose(adain(x, torch.zeros(2, 10)).mean((2, 3)), torch.zeros(2, 5), atol=1e-5)


def test_the_critic_sees_how_much_a_group_differs():
    same = seeded(1, 3, 4, 5).expand(4, -1, -1, -1)
    assert minibatch_std(same, 4)[:, 3].abs().max() < 1e-6
    x = seeded(6, 3, 4, 5)
    told = minibatch_std(x, 4)  # 4 does not divide 6: groups of 3, of every second example
    assert told.shape == (6, 4, 4, 5)
    assert torch.equal(told[:, :3], x)
    wanted = x[0::2].var(0, correction=0).add(1e-8).sqrt().mean()
    assert torch.allclose(told[0::2, 3], wanted.expand(3, 4, 5), atol=1e-3)
    assert (told[1, 3] > 0.1).all()


# --- networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "base", "generator", "critic"),
    [(1024, 32768, 30_370_060, 29_012_513), (256, 16384, 24_767_458, 24_001_089)],
)
def test_published_numbers_of_parameters(size, base, generator, critic):
    c = StyleConfig(3, size, size, 512, 512, 8, base=base, most=512)
    with torch.device("meta"):
        mapping, synthesis = Mapping(c), Synthesis(c)
        assert count(mapping) == 2_101_248
        assert count(mapping, synthesis) == generator
        assert count(StyleCritic(c)) == critic
    assert c.styles == {1024: 18, 256: 14}[size]


def test_levels_double_a_small_map_of_the_same_proportions():
    assert SMALL.levels == ((7, 3, 5), (4, 6, 10), (2, 12, 20), (1, 24, 40))
    with pytest.raises(UsageError, match="which 50 x 70 does not allow; choose sides"):
        _ = StyleConfig(height=50, width=70).levels


@pytest.mark.parametrize("norm", ["demod", "adain", "pixel"])
def test_networks_fit_each_other(norm):
    c = replace(GROWN, norm=norm, skip=norm == "demod", grows=norm != "demod")
    torch.manual_seed(0)
    mapping, synthesis, critic = Mapping(c), Synthesis(c), StyleCritic(c)
    styles = mapping(seeded(3, 5)).unsqueeze(1).expand(-1, c.styles, -1)
    noise = seeded(3, sum(h * w for h, w in synthesis.noise_shapes))
    pixels = synthesis(styles, noise)
    assert pixels.shape == (3, 2, 24, 40)
    assert critic(pixels).shape == (3, 1)
    kinds = {"demod": Demodulated, "adain": Adaptive, "pixel": Plain}
    assert isinstance(synthesis.layers[-1], kinds[norm])


@pytest.mark.parametrize("level", [1, 3])
def test_a_new_resolution_starts_as_the_old_one(level):
    torch.manual_seed(1)
    synthesis, critic = Synthesis(GROWN), StyleCritic(GROWN)
    styles = seeded(2, GROWN.styles, 6)
    old = synthesis(styles, level=level - 1)
    new = synthesis(styles, level=level, share=0.0)
    assert torch.allclose(new, interpolate(old, scale_factor=2, mode="nearest"), atol=1e-6)
    assert torch.allclose(critic(new, level=level, share=0.0), critic(old, level=level - 1), atol=1e-5)
    whole, half = (synthesis(styles, level=level, share=share) for share in (1.0, 0.5))
    assert torch.allclose(half, (new + whole) / 2, atol=1e-5)


def test_styles_act_on_their_own_layers_and_later_ones():
    torch.manual_seed(0)
    synthesis = Synthesis(SMALL)
    styles = seeded(1, SMALL.styles, 6)
    shown = [level[0] for level in _maps(synthesis, styles)]
    for layer in range(SMALL.styles - 1):
        other = styles.clone()
        other[:, layer] += 1
        changed = [level[0] for level in _maps(synthesis, other)]
        moved = [not torch.equal(a, b) for a, b in zip(shown, changed, strict=True)]
        assert moved == [i >= layer for i in range(len(moved))], layer


def _maps(synthesis: Synthesis, styles: torch.Tensor) -> list[torch.Tensor]:
    """What every layer puts out."""
    seen: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda module, given, out: seen.append(out.detach().clone()))
        for layer in synthesis.layers
    ]
    synthesis(styles)
    for hook in hooks:
        hook.remove()
    return seen


def test_mapping_is_dense_layers_after_pixel_norm():
    torch.manual_seed(0)
    mapping = Mapping(SMALL)
    x = z = seeded(4, 5)
    x = x / x.square().mean(1, keepdim=True).sqrt()
    for layer, inside in zip(mapping.layers, (5, 6), strict=True):
        nn.init.normal_(layer.bias)
        x = leaky_relu(x @ layer.weight.T * 0.01 / inside**0.5 + 0.01 * layer.bias, 0.2) * 2**0.5
    assert torch.allclose(mapping(z), x, atol=1e-5)
    assert all(a is not b for a, b in pairwise(mapping.layers))
