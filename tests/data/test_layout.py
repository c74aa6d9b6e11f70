"""Lines and words on drawn pages: where they were put is where they are found."""

from __future__ import annotations

import pytest
import torch

from sfumato.data import layout
from sfumato.data.words import Words
from sfumato.images import to_pil, to_tensor
from tests.pages import page


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
