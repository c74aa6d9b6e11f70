"""DF-GAN: its losses by hand, its penalty against closed forms, and what it can be asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import relu

from sfumato.core.request import Generate, Images
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.textgan import mismatched
from sfumato.nn.transformer import WordsConfig
from sfumato.systems.text.dfgan import DFGAN, DFGANConfig, matching_penalty

WORDS = ("a", "red", "blue", "circle", "star")
TEXT = WordsConfig(vocabulary=WORDS, length=5, width=8, depth=1, heads=2)
CONFIG = DFGANConfig(channels=1, height=12, width=20, text=TEXT, latent=4, features=2)
CAPTIONS = ["a red circle", "a blue circle", "a red star"]


def tiny(**changes: object) -> DFGAN:
    torch.manual_seed(0)
    system = DFGAN(replace(CONFIG, **changes))
    for p in system.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)
    return system


def batch(step: int = 0) -> Batch:
    image = torch.rand(3, 1, 12, 20, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Batch({"image": image, "caption": CAPTIONS}, Rng.training(0, step, range(3)))


def answer(system: DFGAN, **request: object) -> Images:
    *_, result = system.run(Generate(**request))
    assert isinstance(result, Images)
    return result


@pytest.mark.parametrize("attend", [False, True])
def test_the_losses_are_the_formulas(attend):
    system, given = tiny(attend=attend), batch()
    critic, generator = system.losses(batch(), 0)
    ids = system.tokenizer.encode(CAPTIONS).tokens
    words, sentence = system.text(ids)
    fake = system.generator(given.rng.normal(4), sentence, words, ids > 0)

    def judge(x: Tensor, s: Tensor) -> Tensor:
        return system.judge(system.critic(x), s)

    real, other = given["image"], sentence[torch.tensor([1, 0, 0])]
    assert mismatched(ids).tolist() == [1, 0, 0]
    expected = {
        "real": relu(1 - judge(real, sentence)).mean(),
        "wrong": relu(1 + judge(real, other)).mean() / 2,
        "fake": relu(1 + judge(fake, sentence)).mean() / 2,
        "penalty": 2 * matching_penalty(judge, real, sentence, 6.0),
    }
    assert critic.parts.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(critic.parts[name], value, rtol=1e-4), name
    assert torch.allclose(generator.value, -judge(fake, sentence).mean())


def test_each_loss_reaches_its_own_player_alone():
    system = tiny(attend=True)
    players = system.players()
    for loss in system.losses(batch(), 0):
        other = "generator" if loss.player == "critic" else "critic"
        mine, theirs = players[loss.player].parameters(), players[other].parameters()
        wanted = theirs if loss.player == "critic" else list(system.text.parameters())
        gradients = torch.autograd.grad(loss.value, [*mine, *wanted], allow_unused=True)
        assert all(g is not None for g in gradients[: len(mine)]), loss.player
        assert all(g is None for g in gradients[len(mine) :]), loss.player


def test_a_rare_penalty_weighs_as_much():
    often, rarely = tiny(), tiny(lazy=3)
    for step in range(4):
        parts = [next(iter(s.losses(batch(), step))).parts for s in (often, rarely)]
        assert ("penalty" in parts[1]) == (step % 3 == 0)
        if step % 3 == 0:
            assert torch.allclose(parts[1]["penalty"], 3 * parts[0]["penalty"])


def test_wrong_captions_may_also_simply_be_the_next():
    nearest, following = (next(iter(tiny(negatives=n).losses(batch(), 0))) for n in ("nearest", "next"))
    assert not torch.equal(nearest.parts["wrong"], following.parts["wrong"])


def test_the_penalty_of_simple_critics_is_known():
    """Of a linear critic the gradient is its weights; of a quadratic one, the point itself."""
    x, s = torch.randn(5, 2, 3, 4), torch.randn(5, 7)
    a, b = torch.randn(2, 3, 4), torch.randn(7)
    linear = matching_penalty(lambda x, s: (x * a).sum((1, 2, 3)) + s @ b, x, s, 6.0)
    assert torch.allclose(linear, (a.square().sum() + b.square().sum()).sqrt() ** 6, rtol=1e-4)
    square = matching_penalty(lambda x, s: x.square().sum((1, 2, 3)) / 2 + 0 * s.sum(1), x, s, 3.0)
    assert torch.allclose(square, x.flatten(1).norm(dim=1).pow(3).mean(), rtol=1e-4)


def test_the_penalty_is_smooth_where_the_critic_is_flat():
    weight = torch.zeros(6, requires_grad=True)
    flat = matching_penalty(lambda x, s: x @ weight + 0 * s.sum(1), torch.randn(4, 6), torch.randn(4, 2), 6.0)
    (gradient,) = torch.autograd.grad(flat, weight)
    assert flat == 0
    assert (gradient == 0).all()


def test_it_answers_prompts_in_turn_and_says_what_it_cannot_read():
    system = tiny().eval()
    result = answer(system, prompt=("a red circle", "a mauve star"), count=3, seed=7)
    assert result.pixels.shape == (3, 1, 12, 20)
    assert result.captions == ("a red circle", "a mauve star", "a red circle")
    assert result.notes == ("1 of the words of 'a mauve star' could not be read and were left out.",)
    assert not torch.equal(result.pixels[0], result.pixels[2])


@pytest.mark.parametrize("request_", [{"height": 16}, {"width": 16}])
def test_other_sizes_are_refused(request_):
    with pytest.raises(UsageError, match="makes pictures of 12 x 20 pixels; leave height and width out"):
        answer(tiny(), **request_)


def test_sizes_that_do_not_fold_are_refused():
    with pytest.raises(UsageError, match="multiples of 4 and at least 6, got 12 x 21"):
        DFGAN.fit(CONFIG, Facts("odd", 1, 12, 21, frozenset({"image", "caption"})))
