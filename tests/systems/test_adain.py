"""AdaIN: its losses by hand, styles mixed and masked, squares without a seam, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfumato.core.perceptual import moments
from sfumato.core.request import Images, Progress, Stylize
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Facts
from sfumato.data.textures import Textures, paint
from sfumato.errors import UsageError
from sfumato.systems.style.adain import AdaIN, AdaINConfig, exchanged
from sfumato.systems.style.eyes import eyes

FACTS = Facts("odd", 3, 40, 56, frozenset({"a", "b"}))
CONFIG = AdaINConfig(
    features="random",
    layer="relu3_1",
    style_layers=("relu1_1", "relu3_1"),
    style_weight=3.0,
    pixel_weight=2.0,
)
GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(2, 3, 37, 58, generator=GENERATOR) * 2 - 1
STYLES = tuple(paint(k, *size) for k, size in ((3, (24, 40)), (18, (33, 21))))


def system(config: AdaINConfig = CONFIG) -> AdaIN:
    torch.manual_seed(1)
    return AdaIN(AdaIN.fit(config, FACTS)).eval()


@torch.no_grad()  # the checks of types hide from `run` that it is a generator
def answer(system: AdaIN, **asked) -> tuple[list[Progress], Tensor]:
    given = {"images": X, "styles": STYLES[:1]} | asked
    *steps, result = system.run(Stylize(count=len(given["images"]), **given))
    assert isinstance(result, Images)
    return steps, result.pixels


def test_it_descends_shares_of_what_is_seen():
    ours, a, b = system(), X[:, :, :36, :56], X.flip(1)[:, :, :28, :40]
    [loss] = ours.losses(Batch({"a": a, "b": b}, Rng.training(0, 0, range(2))), 0)
    look = eyes("random")
    content, style = look(a, ("relu3_1",))["relu3_1"], look(b, CONFIG.style_layers)
    own, wanted = moments(content), moments(style["relu3_1"])
    target = (content - own.mean) / own.std * wanted.std + wanted.mean
    seen = look(ours.decoder(target), CONFIG.style_layers)
    shares = []
    for layer, maps in style.items():
        is_, should = moments(seen[layer]), moments(maps)
        error = (is_.mean - should.mean).square().mean() + (is_.std - should.std).square().mean()
        shares.append(error / (should.mean.square().mean() + should.std.square().mean()))
    torch.testing.assert_close(
        loss.parts["content"], (seen["relu3_1"] - target).square().mean() / target.square().mean()
    )
    torch.testing.assert_close(loss.parts["style"], 3 * (shares[0] + shares[1]), rtol=1e-4, atol=0)
    torch.testing.assert_close(loss.parts["pixel"], 2 * (ours.decoder(content) - a).square().mean())


def test_the_decoder_learns_through_the_encoder_which_stays():
    ours = system(replace(CONFIG, pixel_weight=0.0))
    [loss] = ours.losses(Batch({"a": X, "b": X.flip(1)}, Rng.training(0, 0, range(2))), 0)
    loss.value.backward()
    assert all(p.grad.abs().sum() > 0 for p in ours.decoder.parameters())
    assert all(p.grad is None for p in ours.encoder.parameters())
    assert torch.equal(ours.encoder.features[0].weight, eyes("random").features[0].weight)


def test_strength_goes_from_the_picture_s_own_statistics_to_the_style_s():
    x = torch.randn(1, 4, 9, 8)
    style = moments(torch.rand(1, 4, 5, 5) * 3)
    half = moments(exchanged(x, [style], (1.0,), None, 0.5))
    full = moments(exchanged(x, [style], (1.0,), None, 1.0))
    assert torch.equal(exchanged(x, [style], (1.0,), None, 0.0), x)
    assert torch.allclose(full.mean, style.mean, atol=1e-4)
    assert torch.allclose(full.std, style.std, atol=1e-4)
    assert torch.allclose(half.mean, (moments(x).mean + style.mean) / 2, atol=1e-4)
    assert torch.allclose(half.std, (moments(x).std + style.std) / 2, atol=1e-4)


def test_a_style_applies_within_its_mask_by_the_statistics_there():
    x = torch.randn(1, 4, 6, 8)
    styles = [moments(torch.rand(1, 4, 5, 5) * k) for k in (1, 3)]
    masks = torch.zeros(2, 1, 6, 8)
    masks[0, ..., :3], masks[1, ..., 3:6] = 1, 1
    y = exchanged(x, styles, (0.5, 0.5), masks, 1.0)
    for part, style in ((y[..., :3], styles[0]), (y[..., 3:6], styles[1])):
        assert torch.allclose(moments(part).mean, style.mean, atol=1e-4)
        assert torch.allclose(moments(part).std, style.std, atol=1e-4)
    assert torch.equal(y[..., 6:], x[..., 6:])
    everywhere = exchanged(x, styles[:1], (1.0,), torch.ones(1, 1, 6, 8), 0.7)
    assert torch.allclose(everywhere, exchanged(x, styles[:1], (1.0,), None, 0.7), atol=1e-5)


def test_styles_are_mixed_by_their_weights():
    ours = system()
    alone = answer(ours)[1]
    assert alone.shape == X.shape
    assert torch.allclose(answer(ours, styles=STYLES, weights=(2.0, 0.0))[1], alone, atol=1e-6)
    both, other = answer(ours, styles=STYLES)[1], answer(ours, styles=STYLES[1:])[1]
    assert (both - alone).abs().max() > 1e-3
    assert (both - other).abs().max() > 1e-3
    masks = torch.zeros(2, 1, 37, 58)
    masks[0] = 1
    masks[1, ..., :3, :3] = 1e-9
    assert torch.allclose(answer(ours, styles=STYLES, masks=masks)[1], alone, atol=1e-4)


@pytest.mark.parametrize("tile", [8, 20])
def test_squares_leave_no_seam(tile):
    whole = system()
    small = AdaIN(replace(whole.config, tile=tile)).eval()
    small.load_state_dict(whole.state_dict())
    (few, expected), (many, pixels) = answer(whole), answer(small)
    assert (pixels - expected).abs().max() < 1e-5
    assert len(many) > len(few) == 4
    assert [step.done for step in many] == sorted(step.done for step in many)
    assert many[-1].done == 1


def test_the_colours_of_the_picture_are_kept():
    """With a decoder that paints what it is told in its last layer, colours could not be compared; so the
    style's picture is."""
    ours, grey = system(), X.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    kept = answer(ours, images=grey, keep_colour=True)[1]
    same = answer(ours, images=grey, styles=(STYLES[0].flip(0),), keep_colour=True)[1]
    assert (answer(ours, images=grey)[1] - kept).abs().max() > 1e-3
    assert (kept - same).abs().max() < 0.2 * (answer(ours, images=grey)[1] - kept).abs().max()


def test_the_painted_picture_gets_the_colours_of_the_style():
    """Means and deviations of what is painted, before it is cut to what a screen shows."""
    plain, ours = system(), system(replace(CONFIG, colours=True))
    faint = STYLES[0] / 9  # so that nothing has to be cut
    ours.load_state_dict(plain.state_dict())
    (_, without), (_, with_) = answer(plain, styles=(faint,)), answer(ours, styles=(faint,))
    wanted = moments(faint[None])
    assert (moments(without).mean - wanted.mean).abs().max() > 1e-2
    torch.testing.assert_close(moments(with_).mean, wanted.mean.expand(2, -1, -1, -1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(moments(with_).std, wanted.std.expand(2, -1, -1, -1), rtol=5e-2, atol=0)
    nothing = answer(ours, strength=0.0)[1]
    torch.testing.assert_close(nothing, answer(plain, strength=0.0)[1])
    masks = torch.zeros(1, 1, 37, 58)
    masks[..., :20] = 1
    beside = answer(ours, styles=(faint,), masks=masks)[1]
    torch.testing.assert_close(
        moments(beside[..., :20]).mean, wanted.mean.expand(2, -1, -1, -1), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(beside[..., 20:], answer(plain, styles=(faint,), masks=masks)[1][..., 20:])


def test_with_colours_the_loss_is_of_the_picture_that_has_them():
    config = replace(CONFIG, colours=True, pixel_weight=0.0)
    ours, batch = (
        system(config),
        Batch({"a": X[:, :, :36, :56], "b": X.flip(1)}, Rng.training(0, 0, range(2))),
    )
    [loss] = ours.losses(batch, 0)
    loss.value.backward()
    assert ours.decoder.convs[0].weight.grad.abs().sum() > 0
    with torch.no_grad():  # a decoder whose own colours are others paints the same
        ours.decoder.convs[-1].weight *= 2
        ours.decoder.convs[-1].bias += 0.3
    [same] = ours.losses(batch, 0)
    torch.testing.assert_close(loss.value, same.value, rtol=1e-2, atol=0)  # variances have a floor


def test_pictures_and_styles_of_any_size():
    ours = system()
    for size in ((1, 1), (3, 50), (16, 16)):
        assert answer(ours, images=torch.zeros(1, 3, *size))[1].shape == (1, 3, *size)
    small = answer(ours, style_scale=0.5)[1]
    assert (small - answer(ours)[1]).abs().max() > 1e-4


def test_grey_pictures():
    ours = AdaIN(AdaIN.fit(CONFIG, replace(FACTS, channels=1))).eval()
    grey = X[:, :1]
    [loss] = ours.losses(Batch({"a": grey, "b": grey.flip(0)}, Rng.training(0, 0, range(2))), 0)
    assert loss.value.isfinite()
    assert answer(ours, images=grey, styles=(STYLES[0][:1],))[1].shape == grey.shape


def test_a_network_of_the_user_s_is_kept_in_the_run(tmp_path):
    ours = system()
    config = replace(ours.config, features=str(tmp_path / "gone.pth"))
    other = AdaIN(config)
    assert not torch.equal(other.encoder.features[0].weight, ours.encoder.features[0].weight)
    other.load_state_dict(ours.state_dict())
    other.prepare(Textures(size=16, length=1))
    assert torch.equal(other.encoder.features[0].weight, ours.encoder.features[0].weight)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"styles": ()}, "takes the style of a picture, but none was given; give one or more"),
        (
            {"images": X[:, :1], "styles": (STYLES[0][:1],)},
            "paints pictures of 3 channels, got 1; convert them first",
        ),
        (
            {"styles": (torch.zeros(3, 1, 1),)},
            "A style of 1 x 1 pixels is too small to have strokes; give one",
        ),
        ({"weights": (1.0, 2.0)}, "2 weights for 1 styles"),
        ({"masks": torch.ones(2, 1, 37, 58)}, "There are 2 masks for 1 styles; give one for each"),
        ({"masks": torch.zeros(1, 1, 37, 58)}, "A mask is 0 everywhere, so its style applies nowhere"),
        ({"start": "noise"}, "AdaIN paints in one pass and has neither start nor steps"),
        ({"style_scale": 0.0}, "style_scale is above 0"),
    ],
)
def test_what_cannot_be_is_refused(asked, told):
    with pytest.raises(UsageError, match=told):
        answer(system(), **asked)


def test_styles_of_other_channels_are_refused():
    request = Stylize(images=X)
    object.__setattr__(request, "styles", (STYLES[0][:1],))  # in tests, types would refuse it first
    with pytest.raises(UsageError, match="paints styles of 3 channels, got 1; convert them first"):
        next(system().run(request))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="Tiles are multiples of 4 pixels a side, got 30; 1024 is usual"):
        AdaIN(replace(CONFIG, tile=30))
    with pytest.raises(UsageError, match="Styles are exchanged behind a convolution, such as relu4_1"):
        AdaIN.fit(replace(CONFIG, layer="pool2"), FACTS)
