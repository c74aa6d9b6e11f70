"""The causal transformer: masks drawn by hand, its cache against reading anew, two vocabularies in one."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from sfumato.nn.causal import Cache, Causal, CausalConfig, Stream, look_back

SHOWN = {
    "dense": ["#....", "##...", "###..", "####.", "#####"],
    # two words, then a picture of 2 rows and 3 columns: each line is what one place of the picture sees
    "row": ["#.....", "##....", "###...", "####..", ".####.", "..####"],
    "column": ["#.....", ".#....", "..#...", "#..#..", ".#..#.", "..#..#"],
}


def drawn(mask: torch.Tensor) -> list[str]:
    return ["".join(".#"[int(seen)] for seen in row) for row in mask]


def test_without_a_picture_everything_before_is_seen():
    for pattern in ("dense", "row", "column", "conv"):
        assert drawn(look_back(pattern, 5, 0, 0, 3)) == SHOWN["dense"]


@pytest.mark.parametrize("pattern", ["row", "column"])
def test_rows_and_columns_of_a_picture(pattern):
    mask = look_back(pattern, 2, 2, 3, 3)
    assert drawn(mask[2:, 2:]) == SHOWN[pattern]
    assert mask[2:, :2].all(), "all of the text is seen"
    assert drawn(mask[:2]) == ["#.......", "##......"]


@pytest.mark.parametrize(("rows", "columns", "kernel"), [(5, 7, 3), (6, 5, 5), (5, 3, 5), (3, 4, 11)])
def test_a_neighbourhood_wraps_at_the_rims(rows, columns, kernel):
    half, cells = kernel // 2, rows * columns
    steps = {a * columns + b for a, b in product(range(half + 1), range(-half, half + 1))}
    expected = [["#" if i - j in steps and j <= i else "." for j in range(cells)] for i in range(cells)]
    assert drawn(look_back("conv", 0, rows, columns, kernel)) == ["".join(row) for row in expected]


CONFIG = CausalConfig(width=16, depth=4, heads=2, patterns=("row", "column", "dense", "conv"), kernel=3)


@torch.no_grad()
def test_a_place_depends_on_what_its_layers_may_see_and_on_nothing_later():
    torch.manual_seed(0)
    config = CausalConfig(width=16, depth=1, heads=2, patterns=("column",))
    trunk, x = Causal(config, 2, (3, 4)), torch.randn(1, 14, 16)
    seen = look_back("column", 2, 3, 4, 11)
    for place in range(14):
        other = x.clone()
        other[:, place] = torch.randn(16)
        moved = (trunk(other) - trunk(x)).abs().amax((0, 2)) > 1e-6
        assert torch.equal(moved, seen[:, place])


@torch.no_grad()
@pytest.mark.parametrize("patterns", [("dense",), CONFIG.patterns])
def test_with_a_cache_it_says_what_it_says_without(patterns):
    torch.manual_seed(1)
    config = CausalConfig(width=16, depth=4, heads=2, patterns=patterns, kernel=3)
    stream = Stream(config, words=7, length=5, codes=9, grid=(3, 4)).eval()
    ids, codes = torch.randint(0, 7, (3, 5)), torch.randint(0, 9, (3, 12))
    whole = stream(ids, codes)
    assert whole.shape == (3, 17, 7 + 5 + 9)
    cache = Cache(config, 3, 17, stream.head.weight)
    parts = [stream(ids, codes[:, :n], cache) for n in (0, 1, 5, 11)]
    assert [part.shape[1] for part in parts] == [6, 1, 4, 6]
    assert torch.allclose(torch.cat(parts, 1).exp(), whole.exp(), atol=1e-5)
    assert cache.length == 17


@torch.no_grad()
def test_words_cannot_foretell_numbers_nor_pictures_words():
    torch.manual_seed(2)
    stream = Stream(CONFIG, words=7, length=5, codes=9, grid=(3, 4)).eval()
    says = stream(torch.randint(0, 7, (2, 5)), torch.randint(0, 9, (2, 12))).softmax(2)
    assert (says[:, :5, 12:] == 0).all()
    assert (says[:, 5:, :12] == 0).all()
    assert (says[:, :5, :12] > 0).all()
    assert (says[:, 5:, 12:] > 0).all()


def test_every_empty_place_has_a_token_of_its_own():
    stream = Stream(CONFIG, words=7, length=5, codes=9, grid=(3, 4))
    padded = stream.padded(torch.tensor([[3, 6, 0, 0, 0], [0, 0, 0, 0, 0]]))
    assert padded.tolist() == [[3, 6, 9, 10, 11], [7, 8, 9, 10, 11]]


@torch.no_grad()
def test_the_first_number_is_foretold_by_the_last_word_and_the_text_is_seen():
    torch.manual_seed(3)
    stream = Stream(CONFIG, words=7, length=5, codes=9, grid=(3, 4)).eval()
    ids, codes = torch.randint(1, 7, (1, 5)), torch.randint(0, 9, (1, 12))
    before = stream(ids, codes)
    for place in range(5):
        other = ids.clone()
        other[0, place] = ids[0, place] % 6 + 1
        changed = (stream(other, codes).exp() - before.exp()).abs().amax((0, 2)) > 1e-7
        assert not changed[: place + 1].any()
        assert changed[place + 1 :].all()
    for place in range(12):
        other = codes.clone()
        other[0, place] = (codes[0, place] + 1) % 9
        changed = (stream(ids, other).exp() - before.exp()).abs().amax((0, 2)) > 1e-7
        assert not changed[: 6 + place].any(), "a number must not be told before it is foretold"
        assert place == 11 or changed[6 + place]
