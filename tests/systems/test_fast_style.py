"""Fast style: its objective by hand, a style that is kept, squares without a seam, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfumato.core.perceptual import gram
from sfumato.core.request import Images, Progress, Stylize
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Facts
from sfumato.data.photos import open_photo
from sfumato.data.textures import Textures, paint
from sfumato.errors import DataError, UsageError
from sfumato.images import save_png, to_pil, to_tensor
from sfumato.nn.image_transform import ImageTransformConfig
from sfumato.systems.style.eyes import eyes
from sfumato.systems.style.faststyle import FastStyle, FastStyleConfig, mosaic, shaken

FACTS = Facts("odd", 3, 40, 56, frozenset({"image"}))
CONFIG = FastStyleConfig(
    features="random",
    style_size=32,
    network=ImageTransformConfig(width=3, blocks=1),
    content_layer="relu2_2",
    style_layers=("relu1_1", "relu3_1"),
    content_weight=2.0,
    style_weight=3.0,
)
ANY = Textures(size=16, length=1)
"""Any data: only the trainer's own way to it is tried."""
X = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0)) * 2 - 1


def system(config: FastStyleConfig = CONFIG) -> FastStyle:
    torch.manual_seed(1)
    built = FastStyle(FastStyle.fit(config, FACTS)).eval()
    built.prepare(ANY)
    return built


@torch.no_grad()  # the checks of types hide from `run` that it is a generator
def answer(system: FastStyle, **asked) -> tuple[list[Progress], Tensor]:
    images = asked.pop("images", X)
    *steps, result = system.run(Stylize(images=images, count=len(images), **asked))
    assert isinstance(result, Images)
    return steps, result.pixels


def test_it_descends_shares_of_what_is_seen():
    ours = system(replace(CONFIG, variation_weight=0.5))
    [loss] = ours.losses(Batch({"image": X}, Rng.training(0, 0, range(2))), 0)
    painted, look = ours.network(X), eyes("random")
    seen, given = (look(x, ("relu1_1", "relu2_2", "relu3_1")) for x in (painted, X))
    style = look(ours.style[None] / 127.5 - 1, ("relu1_1", "relu3_1"))
    content = (seen["relu2_2"] - given["relu2_2"]).square().mean() / given["relu2_2"].square().mean()
    shares = [
        (gram(seen[layer]) - gram(maps)).square().mean() / gram(maps).square().mean()
        for layer, maps in style.items()
    ]
    rows, columns = painted.diff(dim=2), painted.diff(dim=3)
    torch.testing.assert_close(loss.parts["content"], 2 * content)
    torch.testing.assert_close(loss.parts["style"], 3 * (shares[0] + shares[1]))
    torch.testing.assert_close(
        loss.parts["variation"], 0.5 * (rows.square().mean() + columns.square().mean())
    )
    assert loss.player == "network"


def test_colours_are_shaken_picture_by_picture():
    def rng(rows: range) -> Rng:
        return Rng.training(0, 0, rows)

    assert torch.equal(shaken(X, rng(range(2)), 0.0), X)
    both = shaken(X, rng(range(2)), 1.0)
    assert both.abs().max() <= 1
    contrasts = both.flatten(2).std(2) / X.flatten(2).std(2)
    assert contrasts.unique().numel() == contrasts.numel()
    assert contrasts.sub(1).abs().max() > 0.1
    torch.testing.assert_close(shaken(X[1:], rng(range(1, 2)), 1.0), both[1:])
    many = torch.rand(400, 3, 2, 2) - 0.5
    changed = (shaken(many, rng(range(400)), 0.25) != many).flatten(1).any(1).float().mean().item()
    assert 0.17 < changed < 0.33


def test_the_style_itself_has_no_style_to_learn():
    ours = system()
    style = ours.style[None] / 127.5 - 1
    assert ours.objective(style, style.flip(3))["style"] < 1e-9
    assert ours.objective(X, X)["content"] == 0


def test_a_run_keeps_its_style(tmp_path):
    picture = tmp_path / "long.png"
    save_png(to_pil(paint(3, 30, 120)), picture)
    ours = system(replace(CONFIG, style=str(picture)))
    assert ours.style.shape == (3, 16, 64)
    picture.unlink()
    other = FastStyle(ours.config)
    other.prepare(ANY)
    with pytest.raises(DataError, match="is gone and no checkpoint holds it; put it back, or train anew"):
        list(other.losses(Batch({"image": X}, Rng.training(0, 0, range(2))), 0))
    other.load_state_dict(ours.state_dict())
    other.prepare(ANY)
    assert torch.equal(other.targets(eyes("random"))["relu1_1"], ours.targets(eyes("random"))["relu1_1"])
    with pytest.raises(UsageError, match=r"There is no style picture '.*'; give the path of one, or such as"):
        FastStyle.fit(ours.config, FACTS)


def test_squares_leave_no_seam_and_nearly_the_same_tones():
    x = to_tensor(open_photo("coffee"))[None]
    whole = system()
    small = FastStyle(replace(whole.config, whole=2**17, tile=128)).eval()
    small.load_state_dict(whole.state_dict())
    expected, (steps, pixels) = answer(whole, images=x)[1], answer(small, images=x)
    assert [step.done for step in steps][-1] == 1
    assert len(steps) == 4 * 5
    assert (pixels - expected).square().mean() < 0.02 * expected.var()

    by_parts = torch.empty_like(x)
    for _ in small._paint(x, by_parts):
        pass
    sample = small.network.statistics(mosaic(x, 8))
    in_one = small.network.with_statistics(x, sample)
    assert (by_parts - in_one).abs().max() < 1e-4 * in_one.abs().max().clamp(min=1)


def test_the_sample_lies_evenly_over_the_picture():
    x = torch.stack(torch.meshgrid(torch.arange(512.0), torch.arange(300.0), indexing="ij"))[None]
    squares = mosaic(x, 8)
    assert squares.shape == (8, 2, 128, 128)
    assert squares[:, 0].mean() == pytest.approx(256, abs=1)
    assert squares[:, 1].mean() == pytest.approx(150, abs=1)
    assert mosaic(x[:, :, :50], 8).shape[2:] == (50, 50)


def test_strength_masks_and_colours():
    ours = system()
    full = answer(ours)[1]
    assert torch.equal(answer(ours, strength=0.0)[1], X)
    assert torch.allclose(answer(ours, strength=0.5)[1], (full + X) / 2, atol=1e-6)
    mask = torch.zeros(1, 1, 40, 56)
    mask[..., :20] = 1
    partly = answer(ours, masks=mask)[1]
    assert torch.equal(partly[..., 20:], X[..., 20:])
    assert torch.equal(partly[..., :20], full[..., :20])
    x = X * 0.2
    kept = answer(ours, images=x, keep_colour=True)[1]
    inside = (kept.abs() < 1).all(1, keepdim=True)
    drift = ((kept - x) - (kept - x).mean(1, keepdim=True)) * inside
    assert drift.abs().max() < 1e-5
    assert (kept - x).abs().mean() > 0.01


def test_grey_pictures():
    grey = FastStyle.fit(CONFIG, replace(FACTS, channels=1))
    ours = FastStyle(grey).eval()
    ours.prepare(ANY)
    [loss] = ours.losses(Batch({"image": X[:, :1]}, Rng.training(0, 0, range(2))), 0)
    assert loss.value.isfinite()
    assert answer(ours, images=X[:, :1])[1].shape == (2, 1, 40, 56)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"images": X[:, :1]}, "paints pictures of 3 channels, got 1; convert them first"),
        ({"styles": (X[0],)}, "has learned one style and takes no other; leave styles and weights out"),
        ({"style_scale": 2.0}, "strokes have the size it learned, got style_scale 2.0"),
        ({"steps": 5}, "A fast style paints in one pass and has neither start nor steps"),
        ({"strength": -1.0}, r"strength is 0 \(the picture\) or more .*, got -1.0"),
        ({"strength": float("nan")}, "strength is 0 .*, got nan"),
        ({"masks": torch.ones(2, 1, 40, 56)}, "One style needs one mask, got 2; give one"),
    ],
)
def test_what_cannot_be_is_refused(asked, told):
    with pytest.raises(UsageError, match=told):
        answer(system(), **asked)


def test_masks_of_another_size_are_refused():
    request = Stylize(images=X)
    object.__setattr__(request, "masks", torch.ones(1, 1, 4, 5))  # in tests, types would refuse it first
    with pytest.raises(UsageError, match="masks have 4 x 5 pixels and the pictures 40 x 56; make them equal"):
        next(system().run(request))


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="Tiles are multiples of 4 pixels a side, got 30; 512 is usual"):
        FastStyle(replace(CONFIG, tile=30))
    with pytest.raises(UsageError, match="A share of pictures is shaken, from 0 to 1, got 1"):
        FastStyle(replace(CONFIG, shaken=1.5))
    with pytest.raises(UsageError, match="has no layer 'relu9_1'"):
        FastStyle.fit(replace(CONFIG, content_layer="relu9_1"), FACTS)
    with pytest.raises(UsageError, match="There is no VGG 'vgg-huge'; give vgg-small, which comes along"):
        FastStyle.fit(replace(CONFIG, features="vgg-huge"), FACTS)
