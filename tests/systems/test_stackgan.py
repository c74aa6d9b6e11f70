"""StackGAN: both stages' losses by hand, a first stage that stays as it is, and what it can be asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import avg_pool2d, softplus

from sfumato.core.request import Generate, Images, Progress
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Facts
from sfumato.errors import DataError, UsageError
from sfumato.nn.textgan import mismatched
from sfumato.nn.transformer import WordsConfig
from sfumato.systems.text.stackgan import StackGAN, StackGANConfig

WORDS = ("a", "red", "blue", "circle", "star")
TEXT = WordsConfig(vocabulary=WORDS, length=5, width=8, depth=1, heads=2)
FIRST = StackGANConfig(
    channels=1,
    height=24,
    width=40,
    doublings=1,
    text=TEXT,
    latent=4,
    told=5,
    features=4,
    critic=3,
    residual=1,
)
SECOND = replace(FIRST, stage=2)
CAPTIONS = ["a red circle", "a blue circle", "a red star"]


def tiny(config: StackGANConfig) -> StackGAN:
    torch.manual_seed(0)
    return StackGAN(config)


def batch() -> Batch:
    image = torch.rand(3, 1, 24, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Batch({"image": image, "caption": CAPTIONS}, Rng.training(0, 0, range(3)))


@pytest.mark.parametrize("config", [FIRST, SECOND])
def test_the_losses_are_the_formulas(config):
    system, given = tiny(config), batch()
    critic, generator = system.losses(batch(), 0)
    ids = system.tokenizer.encode(CAPTIONS).tokens
    sentence = system.text(ids)[1]
    z, first, second = (given.rng.normal(n) for n in (4, 5, 5))
    made, divergence = system.first(z, sentence, first)
    real = avg_pool2d(given["image"], 2)
    if system.second is not None:
        made, divergence = system.second(made, sentence, second)
        real = given["image"]
    right = system.critic(real, sentence, sentence[mismatched(ids)])
    fooled = system.critic(made, sentence)[0]
    wanted = softplus(-right[0]).mean() + (softplus(right[1]).mean() + softplus(fooled).mean()) / 2
    assert torch.allclose(critic.value, wanted, rtol=1e-5)
    assert torch.allclose(generator.parts["game"], softplus(-fooled).mean(), rtol=1e-5)
    assert torch.allclose(generator.parts["divergence"], 2 * divergence, rtol=1e-5)
    [maker] = system.players()["generator"].modules
    assert set(torch.autograd.grad(critic.value, list(maker.parameters()), allow_unused=True)) == {None}


def test_the_second_stage_leaves_the_first_as_it_is():
    first, second = tiny(FIRST), tiny(SECOND)
    second.adopt(first)
    second.eval()
    for player in second.players().values():
        for module in player.modules:
            module.train()  # as the trainer does
    before = {name: tensor.clone() for name, tensor in second.state_dict().items()}
    for loss in second.losses(batch(), 0):
        loss.value.backward(inputs=second.players()[loss.player].parameters())
    still = {name for name, tensor in second.state_dict().items() if torch.equal(tensor, before[name])}
    assert {name for name in before if name.split(".")[0] in ("text", "first")} <= still, "batch norm's too"
    assert "second.join.1.running_mean" not in still
    moving = {id(p) for player in second.players().values() for p in player.parameters()}
    assert moving.isdisjoint(id(p) for p in [*second.first.parameters(), *second.text.parameters()])


def test_a_first_stage_of_another_shape_is_refused():
    for system, base in ((SECOND, replace(FIRST, features=6)), (FIRST, FIRST)):
        with pytest.raises(DataError, match="needs a trained first one of its own shape, got a StackGAN"):
            tiny(system).adopt(tiny(base))


def test_the_sketch_can_be_seen_on_the_way():
    first, second = tiny(FIRST).eval(), tiny(SECOND).eval()
    second.adopt(first)
    request = Generate(prompt="a red star", count=2, seed=5)
    [sketched] = first.run(request)
    progress, painted = second.run(request)
    assert isinstance(sketched, Images)
    assert isinstance(painted, Images)
    assert isinstance(progress, Progress)
    assert progress.preview is not None
    assert sketched.pixels.shape == painted.pixels.shape == (2, 1, 24, 40)
    assert torch.equal(progress.preview(), sketched.pixels)


def test_what_cannot_be_is_refused():
    fields = frozenset({"image", "caption"})
    with pytest.raises(UsageError, match="must be multiples of 2, got 24 x 41; choose another --size"):
        StackGAN.fit(FIRST, Facts("odd", 1, 24, 41, fields))
    with pytest.raises(UsageError, match="multiples of 4 and at least 6, got 12 x 21; choose another --size"):
        StackGAN.fit(FIRST, Facts("odd", 1, 24, 42, fields))
    with pytest.raises(UsageError, match="makes pictures of 24 x 40 pixels; leave height and width out"):
        list(tiny(FIRST).run(Generate(height=32)))
