"""Words that see how far apart they are: turned as others turn them, and told apart by distance alone."""

from __future__ import annotations

import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from sfumato.errors import UsageError
from sfumato.nn.transformer import Words, WordsConfig, _turns, turned


def test_queries_and_keys_are_turned_as_transformers_does():
    q, k = torch.randn(2, 3, 5, 7, 6)
    turns = _turns(7, 3)
    cosine, sine = (torch.cat([half, half], 1)[None] for half in turns)
    theirs = apply_rotary_pos_emb(q, k, cosine, sine)
    torch.testing.assert_close((turned(q, turns), turned(k, turns)), theirs)


def test_products_depend_on_the_distance_alone():
    q, k = torch.randn(2, 8)
    turns = _turns(9, 4)
    rows = [turned(x.expand(1, 1, 9, 8), turns)[0, 0] for x in (q, k)]
    products = rows[0] @ rows[1].mT
    for distance in range(-8, 9):
        same = products.diagonal(distance)
        torch.testing.assert_close(same, same[:1].expand_as(same))
    assert products[0, 0] != pytest.approx(products[0, 1].item(), abs=1e-3)


def test_what_stands_before_and_behind_differs_without_learned_places():
    config = WordsConfig(("a", "red", "ring"), length=3, width=16, depth=1, heads=2)
    torch.manual_seed(0)
    plain, rotary = Words(config), Words(WordsConfig(**vars(config) | {"rotary": True}))
    for words in (plain, rotary):
        torch.nn.init.zeros_(words.position)
    ids = torch.tensor([[2, 3, 4], [4, 3, 2]])
    there, back = plain(ids)[0]
    torch.testing.assert_close(there, back.flip(0))
    there, back = rotary(ids)[0]
    assert (there - back.flip(0)).abs().max() > 0.01


def test_heads_of_odd_width_cannot_be_turned():
    with pytest.raises(UsageError, match="even width, got 5"):
        Words(WordsConfig(width=10, heads=2, rotary=True))
