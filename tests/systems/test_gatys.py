"""Neural style: what it minimises, what its settings mean, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfumato.core.perceptual import LUMA, gram
from sfumato.core.request import Images, Progress, Stylize
from sfumato.data.textures import paint
from sfumato.errors import UsageError
from sfumato.nn.vgg import VGG19, VGGConfig, random_vgg
from sfumato.systems.style.gatys import Gatys, GatysConfig
from sfumato.systems.style.vgg import VGGNet, VGGNetConfig

NET = VGGConfig(widths=(6, 8, 10), convs=(2, 2, 1), pooling="avg", padding="reflect")
CONTENT, STYLE = paint(3, 33, 47), paint(4, 29, 24)


def built(**changes: object) -> Gatys:
    config = replace(Gatys.looking(VGGNetConfig(NET)), **changes)
    system = Gatys(config)
    system.network.load_state_dict(random_vgg(NET).state_dict())
    return system.eval()


def answered(system: Gatys, **asked: object) -> Images:
    request = Stylize(**{"images": CONTENT[None], "styles": (STYLE,), "steps": 12} | asked)
    *progress, result = system.run(request)
    assert all(isinstance(event, Progress) for event in progress)
    return result


def loss(system: Gatys, x: Tensor, **asked: object) -> float:
    request = Stylize(**{"images": CONTENT[None], "styles": (STYLE,)} | asked)
    grams = system._grams(request, max(request.images.shape[2:]))
    aim = system._aim(request.images, grams, request.strength)
    return float(system.objective(x[None], aim))


def test_the_objective_is_that_of_the_paper_relative_to_a_blank():
    system = built(colours=False, variation=0.0, style=("relu1_1", "relu2_1"), content=("relu2_2",))
    x, net = paint(5, 33, 47), system.network
    taps = ("relu1_1", "relu2_1", "relu2_2")
    mine, given = net(x[None], taps), net(CONTENT[None], taps)
    small = torch.nn.functional.interpolate(
        STYLE[None], (47, 39), mode="bicubic", align_corners=False, antialias=True
    ).clamp(-1, 1)
    style = net(small, taps)
    wanted = (mine["relu2_2"] - given["relu2_2"]).square().sum() / given["relu2_2"].square().sum()
    for tap in ("relu1_1", "relu2_1"):
        goal = gram(style[tap])
        wanted = wanted + 0.5 * 3.0 * (gram(mine[tap]) - goal).square().sum() / goal.square().sum()
    assert loss(system, x, strength=3.0) == pytest.approx(float(wanted), rel=1e-5)


def test_nothing_is_to_be_done_where_content_and_style_are_one_picture():
    system = built()
    assert loss(system, CONTENT, styles=(CONTENT,)) < 1e-12
    out = answered(system, styles=(CONTENT,)).pixels[0]
    assert (out - CONTENT).abs().max() < 1e-3
    assert (answered(system).pixels[0] - CONTENT).abs().mean() > 0.02


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_the_search_descends_and_counts_its_closures(optimiser, monkeypatch):
    system, calls = built(optimiser=optimiser), []
    closure = system._closure
    monkeypatch.setattr(system, "_closure", lambda x, aim: calls.append(1) or closure(x, aim))
    out = answered(system, steps=25, strength=10.0).pixels[0]
    assert len(calls) == 25
    assert loss(system, out, strength=10.0) < 0.5 * loss(system, CONTENT, strength=10.0)
    assert all(p.grad is None for p in system.parameters())


def test_progress_shows_the_pictures_on_their_way():
    request = Stylize(images=torch.stack([CONTENT, paint(6, 33, 47)]), styles=(STYLE,), steps=4)
    run = built().run(request)
    begun = next(run)
    first = begun.preview()
    *progress, result = run
    assert [event.done for event in (begun, *progress)] == [k / 8 for k in range(1, 9)]
    last = result.pixels
    assert torch.equal(first[1], request.images[1]), "the second has not begun"
    assert not torch.equal(first[0], last[0])
    assert result.seeds == (0, 1)


def test_weights_blend_and_one_of_nothing_is_as_if_it_were_not_there():
    system, other = built(), paint(7, 40, 31)
    alone = answered(system).pixels
    assert torch.equal(answered(system, styles=(STYLE, other), weights=(2.0, 0.0)).pixels, alone)
    half = answered(system, styles=(STYLE, other)).pixels
    assert torch.equal(answered(system, styles=(STYLE, other), weights=(3.0, 3.0)).pixels, half)
    assert not torch.equal(half, alone)
    a, b = (system._grams(Stylize(images=CONTENT[None], styles=(s,)), 47) for s in (STYLE, other))
    both = system._grams(Stylize(images=CONTENT[None], styles=(STYLE, other), weights=(1.0, 3.0)), 47)
    for tap, matrix in both.items():
        torch.testing.assert_close(matrix, 0.25 * a[tap] + 0.75 * b[tap])


def test_strength_0_keeps_the_picture_and_more_goes_further():
    system = built()
    far = [(answered(system, strength=s).pixels[0] - CONTENT).abs().mean() for s in (0.0, 0.1, 10.0)]
    assert far[0] < 1e-6
    assert far[0] < far[1] < far[2]


def test_kept_colours_are_those_of_the_picture():
    plain, kept = answered(built()).pixels, answered(built(), keep_colour=True).pixels
    luma = torch.tensor(LUMA).view(3, 1, 1)
    inside = (kept[0].abs() < 0.999).all(0)
    assert inside.float().mean() > 0.5
    off = (kept - CONTENT)[0]
    torch.testing.assert_close(off[0][inside], off[2][inside], atol=1e-5, rtol=0)
    wanted, found = ((p[0] * luma).sum(0)[inside] for p in (plain, kept))
    torch.testing.assert_close(wanted, found, atol=1e-5, rtol=0)


def test_the_scale_of_a_style_is_that_of_its_picture_enlarged():
    system = built()
    large = torch.nn.functional.interpolate(STYLE[None], (94, 78), mode="bicubic", antialias=True)
    request = Stylize(images=CONTENT[None], styles=(STYLE,), style_scale=2.0)
    wanted = gram(system.network(large.clamp(-1, 1), ["relu2_1"])["relu2_1"])
    torch.testing.assert_close(system._grams(request, 47)["relu2_1"], wanted, atol=1e-4, rtol=1e-4)


def test_a_search_from_noise_depends_on_the_seed_alone():
    system = built()
    one, other = (answered(system, start="noise", seed=seed).pixels for seed in (0, 1))
    assert not torch.equal(one, other)
    two = answered(system, start="noise", images=torch.stack([CONTENT, CONTENT])).pixels
    torch.testing.assert_close(two, torch.cat([one, other]), atol=1e-4, rtol=0)


def test_a_search_that_meets_nan_goes_back_and_goes_on(monkeypatch):
    system, calls = built(), []
    closure = system._closure

    def faulty(x: torch.nn.Parameter, aim: object) -> float:
        calls.append(1)
        value = closure(x, aim)
        return value * float("nan") if len(calls) == 5 else value

    monkeypatch.setattr(system, "_closure", faulty)
    out = answered(system, steps=12, strength=10.0).pixels[0]
    assert out.isfinite().all()
    assert loss(system, out, strength=10.0) < 0.7 * loss(system, CONTENT, strength=10.0)


def test_tiny_pictures_and_styles_are_served_and_told():
    speck = torch.tensor([0.5, -0.5, 0.1]).view(3, 1, 1)
    result = answered(built(), styles=(speck,), steps=30)
    assert result.notes == ("a style of 1 x 1 pixels has no texture; only its colours are taken",)
    before, after = ((x.mean((1, 2)) - speck.flatten()).norm() for x in (CONTENT, result.pixels[0]))
    assert after < 0.7 * before
    strip = answered(built(), images=CONTENT[None, :, :2]).pixels
    assert strip.shape == (1, 3, 2, 47)
    grey = answered(built(channels=1), images=CONTENT[None, :1], styles=(STYLE[:1],)).pixels
    assert grey.shape == (1, 1, 33, 47)


def test_what_it_cannot_do_is_refused():
    for asked, match in (
        ({"styles": ()}, "needs at least one style picture"),
        ({"masks": torch.ones(1, 1, 33, 47)}, "leave the masks out"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"strength": -1.0}, "strength must be 0 or more and finite, got -1"),
        ({"style_scale": 0.0}, "style_scale must be above 0 and finite, got 0"),
        ({"weights": (1.0, 2.0)}, "2 weights for 1 styles"),
        ({"weights": (-1.0,)}, "0 or more and not all 0"),
        (
            {"images": torch.zeros(1, 1, 1, 1).expand(1, 3, 9000, 9000)},
            "9000 x 9000 pixels take about .* GB of memory",
        ),
        ({"styles": (STYLE[:1],)}, "3 channels, but a style of 1"),
    ):
        with pytest.raises(UsageError, match=match):
            answered(built(), **asked)


def test_it_suits_itself_to_a_network():
    config = Gatys.looking(VGGNetConfig(replace(VGG19, classes=1000, hidden=4096)))
    assert config.content == ("relu4_2",)
    assert config.style == tuple(f"relu{k}_1" for k in range(1, 6))
    assert config.network == VGG19
    base = VGGNet(VGGNetConfig(replace(NET, classes=3)))
    system = Gatys.upon(base)
    assert torch.equal(system.network.features[0].weight, base.network.features[0].weight)
    with pytest.raises(UsageError, match="looks through a VGG, not a Gatys"):
        Gatys.suited(system)
    assert GatysConfig() == Gatys.looking(VGGNetConfig())
