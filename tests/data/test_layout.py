"""Lines and words on drawn pages: where they were put is where they are found."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sfumato.data import layout
from sfumato.data.words import Words
from sfumato.images import to_pil, to_tensor

PAGE = (("the", "quick", "brown", "fox"), ("jumps", "over", "a", "lazy", "dog"), ("moon", "rose", "near"))


def page(
    lines: tuple[tuple[str, ...], ...] = PAGE, *, writer: int = 503, high: int = 40, paper: float = 0.9
) -> tuple[Tensor, list[tuple[int, int, int]]]:
    """A page in [-1, 1], and line, left and right of every word, in pixels."""
    world = Words("test", size=high, width=8 * high, slant=0.05, bend=0.0, noise=0.0)
    drawn, places = torch.zeros(len(lines) * 3 * high // 2 + 60, 24 * high), []
    for number, words in enumerate(lines):
        keys = torch.arange(len(words)) * 7919 + number
        left, top = 40, 30 + number * 3 * high // 2
        for ink in world.written(list(words), torch.full((len(words),), writer), keys):
            columns = (ink > 0.3).any(0).nonzero()[:, 0]
            ink = ink[:, int(columns[0]) : int(columns[-1]) + 1]
            drawn[top : top + high, left : left + ink.shape[1]] = ink
            places.append((number, left, left + ink.shape[1]))
            left += ink.shape[1] + high // 2
    noise = 0.02 * torch.randn(drawn.shape, generator=torch.Generator().manual_seed(0))
    light = paper - 0.3 * torch.linspace(0, 1, drawn.shape[1])
    return (2 * (light - drawn * (light - 0.15) + noise) - 1).clamp(-1, 1)[None], places


def near(boxes: list[layout.Box], places: list[tuple[int, int, int]], high: int) -> bool:
    reach = high // 3
    return len(boxes) == len(places) and all(
        (box.line, True, True) == (line, abs(box.left - left) <= reach, abs(box.right - right) <= reach)
        for box, (line, left, right) in zip(boxes, places, strict=True)
    )


@pytest.mark.parametrize(("writer", "high"), [(503, 40), (520, 28), (555, 64)])
def test_every_word_is_found_in_its_place(writer, high):
    drawn, places = page(writer=writer, high=high)
    boxes = layout.words(drawn)
    assert near(boxes, places, high)
    for box in boxes:
        assert 0 <= box.left < box.right <= drawn.shape[2]
        assert 0 <= box.top < box.bottom <= drawn.shape[1]


def test_light_ink_on_dark_paper_is_found_too():
    drawn, places = page()
    assert near(layout.words(-drawn), places, 40)


def test_dots_and_accents_belong_to_their_line():
    drawn, places = page((("ij", "jiji", "lii"), ("iii", "jij")))
    assert [box.line for box in layout.words(drawn)] == [line for line, _, _ in places] == [0, 0, 0, 1, 1]


def test_a_word_alone_is_one_word():
    batch = Words("test").batch(torch.arange(100))
    found = [len(layout.words(x)) for x in batch["image"]]
    assert found.count(1) >= 97


@pytest.mark.parametrize("tilt", [-4.0, -1.5, 0.0, 2.5])
def test_a_page_askew_is_measured(tilt):
    drawn, _ = page(writer=520)
    turned = to_tensor(to_pil(drawn).rotate(tilt, expand=True, fillcolor=200), 1)
    assert layout.skew(turned) == pytest.approx(tilt, abs=0.5)


def test_where_nothing_is_written_nothing_is_found():
    noise = 0.1 * torch.rand(1, 90, 120, generator=torch.Generator().manual_seed(0))
    shaded = torch.linspace(-0.5, 0.9, 120).expand(1, 90, 120)
    for empty in (torch.ones(1, 50, 60), -torch.ones(1, 3, 2), noise, noise + shaded, torch.zeros(1, 1, 1)):
        assert layout.words(empty) == []
        assert layout.skew(empty) == 0


def test_a_speck_of_dirt_is_no_line():
    drawn, places = page()
    drawn[:, 2:5, 700:704] = -0.8
    assert near(layout.words(drawn), places, 40)
