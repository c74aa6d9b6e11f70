"""Books of codes: running means against their closed form, restarts, a soft choice against its softmax."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sfumato.nn.quantize import Codebook, perplexity, relaxed, straight_through


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def book(size: int = 6, width: int = 3, decay: float = 0.9) -> Codebook:
    torch.manual_seed(0)
    made = Codebook(size, width, decay)
    made.codes.copy_(draw(1, size, width))
    return made


def test_the_nearest_code_is_the_nearest():
    made, z = book(), draw(2, 2, 3, 5, 4)
    index = made.nearest(z)
    apart = torch.cdist(z.movedim(1, -1).reshape(-1, 3), made.codes)
    assert torch.equal(index.flatten(), apart.argmin(1))
    assert torch.equal(made.look_up(index)[1, :, 2, 3], made.codes[index[1, 2, 3]])
    assert torch.equal(made.nearest(made.look_up(index)), index), "codes stand for themselves"
    with torch.autocast("cpu", torch.bfloat16):
        made.codes += 100
        assert torch.equal(made.nearest(z + 100), index), "half precision would not tell them apart"


def test_codes_are_the_weighted_means_of_all_that_chose_them():
    """Closed form: every vector counts decay^age; codes that nothing chose keep their place."""
    made = book()
    first = made.codes.clone()
    vectors, choices = [draw(3 + i, 2, 3, 2, 5) for i in range(4)], []
    for z in vectors:
        index = torch.where(made.nearest(z) == 5, 0, made.nearest(z))
        choices.append(index)
        made.follow(made.tally(z, index))
    for k in range(6):
        weights = [0.9 ** (3 - i) * (index == k).float() for i, index in enumerate(choices)]
        total = sum(w.sum() for w in weights)
        if total == 0:
            assert torch.equal(made.codes[k], first[k])
            continue
        mean = sum((w[:, None] * z).sum((0, 2, 3)) for w, z in zip(weights, vectors, strict=True)) / total
        assert torch.allclose(made.codes[k], mean, atol=1e-5), k
        assert torch.allclose(made.counts[k], 0.1 * total, atol=1e-5)
    assert 5 not in torch.cat(choices)


def test_tallies_of_parts_are_the_tally_of_the_whole():
    one, other, z = book(), book(), draw(3, 4, 3, 2, 5)
    index = one.nearest(z)
    one.follow(one.tally(z, index))
    other.follow(torch.cat([other.tally(z[:1], index[:1]), other.tally(z[1:], index[1:])]))
    assert torch.allclose(one.codes, other.codes, atol=1e-6)


def test_a_lonely_code_keeps_its_place_for_ever():
    made = book(decay=0.5)
    z = made.codes[2].clone().view(1, 3, 1, 1)
    far = 100 + draw(4, 1, 3, 1, 1)
    made.follow(made.tally(z, made.nearest(z)))
    before = made.codes[2].clone()
    for _ in range(300):
        made.follow(made.tally(far, torch.zeros(1, 1, 1, dtype=torch.long)))
    assert torch.allclose(made.codes[2], before)
    assert made.codes.isfinite().all()


def test_codes_that_nothing_chooses_start_anew_where_vectors_are():
    made = book()
    made.counts.copy_(torch.tensor([5.0, 0.0, 5.0, 0.5, 0.2, 5.0]))
    before, vectors = made.codes.clone(), 10 + draw(5, 2, 3)
    made.restart(vectors, least=1.0)
    assert torch.equal(made.codes[[1, 3]], vectors), "no more codes than there are vectors"
    assert torch.equal(made.codes[[0, 2, 4, 5]], before[[0, 2, 4, 5]])
    assert made.counts[1] > 1, "it has time to be found"

    made.follow(made.tally(draw(6, 1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long)))
    assert torch.allclose(made.codes[[1, 3]], vectors, rtol=1e-5)


def test_restarts_bring_a_collapsed_book_back_into_use():
    """Vectors far from all codes: without restarts the nearest code takes them all."""
    z = 50 + 5 * draw(7, 16, 3, 4, 4)
    used = []
    for least in (0.0, 1.0):
        made = Codebook(32, 3, decay=0.9)
        for step in range(40):
            made.follow(made.tally(z, made.nearest(z)))
            if least:
                place = (torch.arange(16) + step) % 16
                made.restart(z.flatten(2)[torch.arange(16), :, place], least)
        used.append(perplexity(made.nearest(z), 32).item())
    assert used[0] < 4
    assert used[1] > 20


def test_the_gradient_passes_as_if_nothing_had_been_chosen():
    z = draw(8, 2, 3).requires_grad_()
    out = straight_through(z, z.detach().round())
    assert torch.equal(out, z.detach().round())
    (weight := draw(9, 2, 3)).mul(out).sum().backward()
    assert torch.equal(z.grad, weight)


def test_a_cold_choice_is_a_draw_from_the_softmax():
    logits = torch.tensor([1.0, 0.0, -1.0, 2.0]).view(1, 4, 1, 1).expand(1, 4, 200, 200)
    chosen = relaxed(logits, draw(10, 1, 4, 200, 200), 1e-3)
    shares = chosen.mean((0, 2, 3))
    assert torch.allclose(shares, logits[0, :, 0, 0].softmax(0), atol=0.01)
    assert chosen.amax(1).mean() > 0.99


def test_a_hot_choice_is_a_mixture_and_no_noise_overflows():
    logits = draw(11, 2, 5, 3, 4)
    noise = torch.full((2, 5, 3, 4), 9.0)
    noise[:, 0] = -40.0
    hot = relaxed(logits, noise, 1e4)
    assert torch.allclose(hot.sum(1), torch.ones(2, 3, 4))
    assert (hot - 0.2).abs().max() < 0.01
    assert relaxed(logits, noise, 0.05).isfinite().all()


def test_perplexity_counts_codes_in_equal_use():
    for used in (1, 7):
        index = torch.arange(used).repeat(3)
        assert math.isclose(perplexity(index, 20).item(), used, rel_tol=1e-5)
