"""DeepDream: steps of the published length, octaves that add up, and aims that are reached."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfumato.core.request import Dream, Images, Progress, Video
from sfumato.core.rng import Rng
from sfumato.data.textures import paint
from sfumato.errors import UsageError
from sfumato.nn.vgg import VGGConfig, random_vgg
from sfumato.systems.style.dream import GREY_LEVEL, Climb, Dreamer, dreamed, fallen, stepped
from sfumato.systems.style.vgg import VGGNet, VGGNetConfig

NET = VGGConfig(widths=(6, 8, 10), convs=(2, 2, 1), classes=4)
CLIMB = Climb(octaves=3, octave_scale=1.4, steps=2, jitter=5, step=1.5, least=4)
X = paint(3, 33, 47) * 0.5


def built(**changes: object) -> Dreamer:
    base = VGGNetConfig(NET, classes=("dot", "dash", "ring", "star"))
    system = Dreamer(replace(Dreamer.looking(base), **changes))
    system.network.load_state_dict(random_vgg(NET).state_dict())
    return system.eval()


def answered(system: Dreamer, **asked: object) -> Images | Video:
    request = Dream(**{"images": X[None], "steps": 3, "octaves": 2} | asked)
    *progress, result = system.run(request)
    assert all(isinstance(event, Progress) for event in progress)
    return result


def test_a_step_changes_pixels_by_its_length_on_average_whatever_the_gradient():
    steep = 1e6 * torch.linspace(0.1, 2, 33 * 47).view(1, 1, 33, 47)
    still = replace(CLIMB, jitter=0)
    moved = stepped(lambda x: (x * steep).sum(), X[None], still, Rng([0])) - X
    torch.testing.assert_close(moved.abs().mean(), torch.tensor(1.5 * GREY_LEVEL))
    torch.testing.assert_close(
        moved[0, 1] / moved[0, 1].mean(), steep[0, 0] / steep.mean(), atol=1e-4, rtol=1e-3
    )


def test_shifts_are_undone_and_drawn_anew_at_every_step():
    seen: list[Tensor] = []

    def nothing(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return 0 * x.sum()

    x, rng = X[None], Rng([3])
    for _ in range(8):
        assert torch.equal(stepped(nothing, x, CLIMB, rng), x)
    assert len({shifted.numpy().tobytes() for shifted in seen}) > 5
    assert all(torch.equal(shifted.flatten().sort().values, x.flatten().sort().values) for shifted in seen)


def test_octaves_are_climbed_from_small_to_large_and_lose_nothing():
    sizes = CLIMB.sizes(33, 47)
    assert sizes == [(17, 24), (24, 34), (33, 47)]
    assert replace(CLIMB, least=20).sizes(33, 47) == sizes[1:]
    assert replace(CLIMB, least=99).sizes(33, 47) == sizes[2:]
    seen: list[tuple[int, int]] = []

    def nothing(x: Tensor) -> Tensor:
        seen.append((x.shape[2], x.shape[3]))
        return 0 * x.sum()

    shares, pictures = zip(*dreamed(nothing, X[None], CLIMB, Rng([0])), strict=True)
    assert seen == [size for size in sizes for _ in range(2)]
    assert shares == pytest.approx([k / 6 for k in range(1, 7)])
    assert all(torch.equal(picture, X[None]) for picture in pictures)


def test_what_was_dreamed_small_is_enlarged_and_kept():
    climb = replace(CLIMB, octaves=2, steps=3, jitter=0)
    *_, (_, whole) = dreamed(Tensor.sum, X[None], climb, Rng([0]))
    torch.testing.assert_close(whole, X[None] + 6 * 1.5 * GREY_LEVEL, atol=1e-5, rtol=0)


@pytest.mark.parametrize("asked", [{}, {"layers": ("relu1_2", "relu3_1")}, {"channel": 3}, {"label": "ring"}])
def test_what_was_asked_for_grows_and_chance_of_the_same_length_does_not_do_it(asked):
    system = built()
    energy = system.energy(Dream(images=X[None], **asked))
    out = answered(system, **asked).pixels
    off = out - X
    noise = torch.randn(off.shape, generator=torch.Generator().manual_seed(0)) * off.std()
    start, dreamt, random = (float(energy(x)) for x in (X[None], out, (X + noise).clamp(-1, 1)))
    assert dreamt > start + 1.5 * abs(random - start)


def test_a_guide_is_come_closer_to_than_by_dreaming_alone():
    system, guide = built(), paint(1, 20, 26)
    energy = system.energy(Dream(images=X[None], guide=guide))
    plain, led = (float(energy(answered(system, guide=g).pixels)) for g in (None, guide))
    assert led > plain > float(energy(X[None]))


def test_a_place_seeks_the_guides_place_with_the_largest_product():
    system = built(layers=("relu1_1",))
    guide = paint(1, 6, 7)
    x = X[None].clone().requires_grad_()
    maps, known = (system.network(p, ["relu1_1"])["relu1_1"][0].flatten(1) for p in (x, guide[None]))
    goal = torch.stack([max(known.T, key=lambda y, a=a: float(y @ a)) for a in maps.T.detach()], 1)
    [wanted] = torch.autograd.grad((maps * goal).mean(), x)
    [found] = torch.autograd.grad(system.energy(Dream(images=X[None], guide=guide))(x), x)
    torch.testing.assert_close(found, wanted)


def test_a_film_falls_into_the_picture():
    system = built()
    video = answered(system, frames=3, images=torch.stack([X, -X]))
    assert isinstance(video, Video)
    assert video.pixels.shape == (2, 3, 3, 33, 47)
    assert video.seeds == (0, 1)
    first = answered(system).pixels[0]
    torch.testing.assert_close(video.pixels[0, 0], first)
    still = built(step=0.0)
    frames = answered(still, frames=2).pixels[0]
    torch.testing.assert_close(frames[1:], fallen(X[None], 0.05))


def test_falling_enlarges_the_middle():
    y, x = torch.meshgrid(torch.linspace(-1, 1, 41), torch.linspace(-1, 1, 61), indexing="ij")
    slopes = torch.stack([x, y, x + y])[None] / 2
    torch.testing.assert_close(fallen(slopes, 0.1), 0.9 * slopes, atol=0.02, rtol=0)


def test_tiny_and_grey_pictures_dream():
    assert answered(built(), images=X[None, :, :3, :2]).pixels.shape == (1, 3, 3, 2)
    assert answered(built(channels=1), images=X[None, :1]).pixels.shape == (1, 1, 33, 47)


def test_what_it_cannot_do_is_refused():
    for asked, match in (
        ({"octaves": 0}, "octaves must be at least 1, got 0"),
        ({"frames": -1}, "frames must be at least 0, got -1"),
        ({"jitter": -1}, "jitter must be at least 0, got -1"),
        ({"label": 1, "guide": X}, "one aim"),
        ({"label": 1, "layers": ("relu1_1",)}, "one aim"),
        ({"label": "rings"}, "no class 'rings'; did you mean 'ring'"),
        ({"label": "7"}, "classes 0 to 3; there is no class 7"),
        ({"channel": 10}, "channels 0 to 7, not 10"),
        ({"layers": ("relu9_1",)}, "no layer 'relu9_1'"),
        ({"images": torch.zeros(1, 1, 1, 1).expand(1, 3, 20000, 9000)}, "20000 x 9000 pixels take about"),
    ):
        with pytest.raises(UsageError, match=match):
            answered(built(), **asked)
    with pytest.raises(UsageError, match="no classes; dream of its layers"):
        answered(Dreamer.upon(VGGNet(VGGNetConfig(replace(NET, classes=0)))), label=1)
