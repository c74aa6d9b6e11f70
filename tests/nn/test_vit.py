"""The vision transformer against transformers' tower, on pictures that are no squares, and in CLIP."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from sfumato.errors import UsageError
from sfumato.nn.clip import ClipConfig, ClipNetwork, covering
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.vit import Vit, VitConfig

SMALL = VitConfig(channels=2, size=(12, 12), patch=3, width=24, layers=3, heads=4, hidden=40, eps=1e-3)
OBLONG = VitConfig(channels=1, size=(8, 20), patch=4, width=8, layers=1, heads=2, hidden=12)


@pytest.mark.parametrize("skip", [0, 1])
@torch.no_grad()
def test_equals_transformers(skip):
    names = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = CLIPVisionConfig(**names, image_size=12, patch_size=3, num_channels=2, layer_norm_eps=1e-3)
    model = CLIPVisionModel(config).eval()
    draw = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p.copy_(torch.randn(p.shape, generator=draw) * 0.3)
    mine = Vit(SMALL)
    mine.load_state_dict({k.removeprefix("vision_model."): v for k, v in model.state_dict().items()})
    x = torch.randn(2, 2, 12, 12, generator=draw)
    want = model(x, output_hidden_states=True)
    states, whole = mine(x, skip=skip)
    torch.testing.assert_close(states, want.hidden_states[-1 - skip], rtol=1e-4, atol=1e-5)
    if not skip:
        torch.testing.assert_close(whole, want.pooler_output, rtol=1e-4, atol=1e-5)


def test_pictures_need_not_be_squares_but_must_fit():
    tower = Vit(OBLONG)
    states, whole = tower(torch.zeros(3, 1, 8, 20))
    assert (states.shape, whole.shape) == ((3, 11, 8), (3, 8))
    with pytest.raises(UsageError, match=r"reads pictures of 8 x 20 pixels, got 20 x 8; scale them first"):
        tower(torch.zeros(3, 1, 20, 8))
    with pytest.raises(UsageError, match=r"Pictures of 9 x 20 pixels cannot be cut into squares of 4"):
        Vit(VitConfig(size=(9, 20), patch=4))


def test_a_stem_leaves_the_squares_where_they_are_and_bends_what_is_inside_them():
    torch.manual_seed(0)
    tower = Vit(replace(OBLONG, stem=(6, 10)))
    x = torch.randn(2, 1, 8, 20)
    assert tower.ends == (tower.embeddings.stem[0],)
    first, second, both = (tower.embeddings(part) for part in (x, -x, 0 * x))
    assert first.shape == (2, 11, 8)
    straight = Vit(OBLONG)
    a, b, c = (straight.embeddings(part) for part in (x, -x, 0 * x))
    torch.testing.assert_close(a + b, 2 * c)  # squares of pixels alone are linear
    assert (first + second - 2 * both).abs().max() > 1e-3
    with pytest.raises(UsageError, match=r"Squares of 4 pixels cannot be halved 3 times by the stem"):
        Vit(replace(OBLONG, stem=(4, 4, 4)))


def network() -> ClipNetwork:
    torch.manual_seed(0)
    text = ClipTextConfig(vocabulary=30, length=9, width=12, layers=2, heads=3, hidden=16)
    return ClipNetwork(ClipConfig(OBLONG, text, dimension=5, end=29, mean=(0.3,), std=(0.2,)))


@torch.no_grad()
def test_a_text_is_read_up_to_its_end():
    tokens = torch.tensor([[4, 5, 6, 29, 1, 2, 3, 4, 5], [7, 29, 29, 29, 29, 29, 29, 29, 29]])
    model = network()
    changed = tokens.clone()
    changed[0, 4:], changed[1, 2:] = 11, 12
    assert torch.equal(model.texts(tokens), model.texts(changed))
    before = tokens.clone()
    before[0, 2] = 8
    assert not torch.allclose(model.texts(tokens)[0], model.texts(before)[0])
    alone = model.texts(tokens[1:])  # which is cut shorter than beside a longer text
    torch.testing.assert_close(alone[0], model.texts(tokens)[1])


def test_both_towers_give_unit_vectors_and_pictures_a_gradient():
    model = network()
    x = torch.rand(2, 1, 11, 31, requires_grad=True)  # scaled and cropped on the way
    seen, read, scale = model(x * 2 - 1, torch.tensor([[3, 29], [4, 29]]))
    torch.testing.assert_close(seen.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(read.norm(dim=1), torch.ones(2))
    assert scale.item() == pytest.approx(1 / 0.07, rel=1e-5)
    (seen * read).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_the_middle_of_what_covers_is_taken():
    wide = torch.arange(40.0).view(1, 1, 1, 40).expand(1, 1, 8, 40) / 20 - 1
    cut = covering(wide, (8, 20))
    assert torch.equal(cut, wide[:, :, :, 10:30])  # nothing to scale: only cut
    assert covering(torch.zeros(1, 3, 7, 9), (14, 5)).shape == (1, 3, 14, 5)
