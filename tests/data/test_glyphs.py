"""The stroke font: ink by distance, styles that do what they say, characters that differ."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from sfumato.data.glyphs.dataset import FONTS, Glyphs
from sfumato.data.glyphs.fonts import NAMED, REGULAR, glyphs, of_text, styles_of
from sfumato.data.glyphs.pen import NOTHING, Strokes, Style, write
from sfumato.data.glyphs.radicals import CHARACTERS
from sfumato.data.glyphs.render import ink
from sfumato.data.glyphs.skeletons import ALPHABET, LATIN, numbers_of, skeleton, table
from sfumato.errors import UsageError


def one_stroke(ax, ay, bx, by, start, stop) -> Strokes:
    line = torch.tensor([[[ax, ay]], [[bx, by]]])
    return Strokes(line[:1], line[1:], torch.tensor([[start]]), torch.tensor([[stop]]))


def style(**changes: float) -> Style:
    """The regular style, with changes."""
    names = list(Style.__dataclass_fields__)
    return Style(*(torch.tensor([changes.get(n, v)]) for n, v in zip(names, REGULAR, strict=True)))


def drawn(text: str, size: int = 48, **changes: float) -> torch.Tensor:
    """Ink, from 0 to 1, of one character."""
    return (1 - glyphs(numbers_of(text), style(**changes), size)[0, 0]) / 2


# --- ink ---------------------------------------------------------------------------------------------


def test_ink_is_the_area_of_a_stroke_with_round_ends():
    length, half = 17.3, 2.4
    angle = math.radians(29)
    ends = (8.2, 7.1, 8.2 + length * math.cos(angle), 7.1 + length * math.sin(angle))
    covered = ink(one_stroke(*ends, half, half), 27, 36)
    assert covered.sum().item() == pytest.approx(2 * half * length + math.pi * half**2, rel=0.01)


def test_ink_follows_the_distance_from_the_nearest_stroke():
    torch.manual_seed(0)
    a, b = torch.rand(3, 5, 2) * 20, torch.rand(3, 5, 2) * 20
    half = torch.rand(3, 5) * 2 + 0.3
    covered = ink(Strokes(a, b, half, half), 19, 23)
    for n, y, x in ((0, 3, 4), (1, 10, 20), (2, 18, 0), (2, 9, 11)):
        p = torch.tensor([x + 0.5, 19 - 0.5 - y])
        depth = []
        for s in range(5):
            along = b[n, s] - a[n, s]
            t = ((p - a[n, s]) @ along / (along @ along)).clamp(0, 1)
            depth.append(half[n, s] - (p - a[n, s] - t * along).norm())
        assert covered[n, y, x].item() == pytest.approx(min(1, max(0, 0.5 + max(depth).item())), abs=1e-4)


def test_a_stroke_may_grow_wider():
    covered = ink(one_stroke(4.0, 12.0, 36.0, 12.0, 1.0, 5.0), 24, 40)[0].sum(0)
    assert covered[6].item() == pytest.approx(2 * (1 + 4 * 2.5 / 32), abs=0.1)
    assert covered[34].item() == pytest.approx(2 * (1 + 4 * 30.5 / 32), abs=0.1)


def test_what_is_not_there_leaves_no_ink_and_costs_no_neighbour():
    there = one_stroke(4.0, 4.0, 9.0, 9.0, 1.0, 1.0)
    nothing = replace(there, start=torch.full((1, 1), NOTHING), stop=torch.full((1, 1), NOTHING))
    both = Strokes(
        *(torch.cat([getattr(nothing, k), getattr(there, k)]) for k in ("a", "b", "start", "stop"))
    )
    covered = ink(both, 13, 15)
    assert covered[0].sum() == 0
    assert torch.equal(covered[1:], ink(there, 13, 15))


# --- skeletons ---------------------------------------------------------------------------------------


def test_arcs_join_their_lines_and_know_where_they_go_on():
    glyph = skeleton("0,0 @0,.5,.4,.5,-90,90 0,1*")
    ends = [line[2:] for line in glyph.round[:-1]]
    starts = [line[:2] for line in glyph.round[1:]]
    assert all(math.dist(e, s) < 1e-6 for e, s in zip(ends, starts, strict=True))
    assert glyph.before[3] == 2
    assert glyph.after[3] == 4
    assert [serif.end for serif in glyph.serifs] == [1]
    top = max(line[0] for line in glyph.square), max(line[0] for line in glyph.round)
    assert top == (pytest.approx(0.4), pytest.approx(0.4))


@pytest.mark.parametrize("font", [-1, 3, 4, 6])
def test_all_characters_differ(font):
    pixels = of_text(LATIN, font, 32).flatten(1)
    apart = (pixels[:, None] - pixels).abs().mean(2) + torch.eye(len(LATIN))
    nearest = apart.min().item()
    assert nearest > 0.012, LATIN[int(apart.min(1).values.argmin())]


def test_invented_characters_differ_and_keep_inside():
    assert len(CHARACTERS) == 820
    pixels = of_text(CHARACTERS, -1, 32)
    assert len({row.numpy().tobytes() for row in pixels.gt(0)}) == 820
    assert pixels[:, :, [0, -1]].min() == 1
    assert pixels[:, :, :, [0, -1]].min() == 1
    assert len(ALPHABET) == 882


def test_characters_without_a_skeleton_are_named():
    with pytest.raises(UsageError, match="stroke font has no 'é', '永'; it knows A to Z"):
        numbers_of("aé永é")


# --- styles ------------------------------------------------------------------------------------------


def test_weight_is_ink():
    assert drawn("H", weight=0.09).sum() > 1.4 * drawn("H", weight=0.05).sum()


def test_slant_moves_the_top_to_the_right():
    columns = torch.arange(48.0)
    upright, leaning = drawn("l"), drawn("l", slant=0.3)

    def middle(rows):
        return (rows.sum(0) * columns).sum() / rows.sum()

    assert abs(middle(upright[9:14]) - middle(upright[20:25])) < 1
    assert middle(leaning[9:14]) - middle(leaning[20:25]) > 2


def test_contrast_thins_level_strokes_alone():
    plain, fine = (drawn("E", contrast=c, serif=0.0) for c in (0.0, 0.7))
    assert fine[:, 25:30].sum() < 0.5 * plain[:, 25:30].sum(), "the bars"
    between = plain[:, 25:30].amax(1) == 0
    assert fine[between].sum() == pytest.approx(plain[between].sum().item(), rel=0.02), "the stem"


def test_serifs_add_ink_at_the_feet():
    plain, serif = drawn("l"), drawn("I", serif=0.15)
    assert torch.equal(drawn("O", serif=0.15), drawn("O"))
    assert drawn("H", serif=0.15).sum() > 1.1 * drawn("H").sum()
    assert plain.shape == serif.shape


def test_without_roundness_corners_fill():
    round_, square = drawn("O", roundness=1.0), drawn("O", roundness=0.0)
    rows, columns = round_.amax(1).nonzero()[:, 0], round_.amax(0).nonzero()[:, 0]
    corner = slice(int(rows[0]), int(rows[0]) + 6), slice(int(columns[0]), int(columns[0]) + 6)
    assert square[corner].sum() > 3 * round_[corner].sum()


def test_width_is_width():
    wide, narrow = ((drawn("M", width=w).amax(0) > 0.5).sum() for w in (1.0, 0.7))
    assert narrow < 0.8 * wide


def test_jitter_moves_joined_strokes_together():
    letter, chance = numbers_of("B"), torch.rand(1, 15, generator=torch.Generator().manual_seed(3))
    moved = write(letter, style(jitter=0.05), chance)
    still = write(letter, style(jitter=0.05))
    there = table().there[letter]
    assert not torch.allclose(
        moved.a[:, : there.shape[1]][there], still.a[:, : there.shape[1]][there], atol=0.01
    )
    shared = [(i, j) for i in range(20) for j in range(20) if torch.equal(still.b[0, i], still.a[0, j])]
    assert len(shared) > 8
    for i, j in shared:
        assert torch.allclose(moved.b[0, i], moved.a[0, j], atol=1e-6)
    assert torch.equal(write(letter, style(jitter=0.0), chance).a, still.a)


def test_a_font_is_the_same_in_any_company():
    numbers = torch.tensor([5, 900, -1, 12])
    alone = styles_of(torch.tensor([900]))
    assert torch.equal(styles_of(numbers)[torch.tensor([1])].weight, alone.weight)
    assert styles_of(torch.tensor([1])).weight.item() == pytest.approx(NAMED["bold"][0])


# --- the dataset -------------------------------------------------------------------------------------


def test_fonts_of_testing_are_others_and_glyphs_stay_what_they_are():
    assert not set(FONTS["train"]) & set(FONTS["test"])
    data = Glyphs("test", 24)
    together, alone = data.batch(torch.tensor([3, 900, 7])), data.batch(torch.tensor([900]))
    assert torch.equal(together["image"][1:2], alone["image"])
    assert torch.equal(together["label"][1:2], alone["label"])
    assert together["image"].shape == (3, 1, 24, 24)
    assert data.facts.classes[int(alone["label"])] in LATIN


def test_what_there_is_not_is_refused():
    with pytest.raises(UsageError, match="Glyphs need 8 pixels a side, got 4"):
        Glyphs(size=4).batch(torch.tensor([0]))
    with pytest.raises(UsageError, match="'glyphs' has no split 'held'"):
        Glyphs("held")
    with pytest.raises(IndexError, match="Glyphs hold examples 0 to 4999"):
        Glyphs("test").batch(torch.tensor([5000]))
