"""zi2zi: which player sees what, fonts as weights, the networks' published shape, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from sfumato.apps.trial import trial
from sfumato.core.request import Images, Letters
from sfumato.core.rng import Rng
from sfumato.core.system import Batch
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.lettering import (
    FontCritic,
    FontCriticConfig,
    LetteringDecoder,
    LetteringEncoder,
    LetteringUNetConfig,
)
from sfumato.systems.gans.pix2pix import Pix2Pix, Pix2PixConfig
from sfumato.systems.style.zi2zi import Zi2Zi, Zi2ZiConfig, zoomed

FONTS = ("thin", "fat", "old")
SMALL = Zi2ZiConfig(
    height=16,
    width=24,
    fonts=FONTS,
    generator=LetteringUNetConfig(width=3, levels=3, embedding=4, dropout=0.0, norm="picture"),
    critic=FontCriticConfig(first=3),
    shuffle=False,
    zoom=1.0,
)


def batch(count: int = 3) -> Batch:
    source = torch.linspace(-1, 1, count * 16 * 24).view(count, 1, 16, 24).mul(9).sin()
    label = torch.arange(count) % len(FONTS)
    return Batch({"source": source, "image": source.cos(), "label": label}, Rng.training(0, 0, range(count)))


def built(config: Zi2ZiConfig = SMALL) -> Zi2Zi:
    torch.manual_seed(1)
    system = Zi2Zi(config)
    torch.nn.init.normal_(system.decoder.embedding)
    return system


@torch.no_grad()
def asked(system: Zi2Zi, **how) -> torch.Tensor:
    images = batch()["source"]
    *_, answer = system.eval().run(Letters(images=images, count=len(images), **how))
    assert isinstance(answer, Images)
    return answer.pixels


# --- the game ----------------------------------------------------------------------------------------


def test_the_critic_moves_once_and_the_generator_twice():
    assert [loss.player for loss in built().losses(batch(), 0)] == ["critic", "generator", "generator"]


def test_what_the_critic_descends():
    system, given = built(), batch()
    x, y, told = given["source"], given["image"], torch.eye(3)
    made = system.decoder(system.encoder(x), told)
    loss = next(system.losses(given, 0))
    system.critic.train()
    (real, real_font), (fake, fake_font) = (system.critic(torch.cat([x, z], 1)) for z in (y, made))
    torch.testing.assert_close(loss.parts["real"], bce(real, torch.ones_like(real)))
    torch.testing.assert_close(loss.parts["made"], bce(fake, torch.zeros_like(fake)))
    torch.testing.assert_close(loss.parts["category"], (bce(real_font, told) + bce(fake_font, told)) / 2)


def test_what_the_generator_descends():
    system, given = built(), batch()
    x, y, told = given["source"], given["image"], torch.eye(3)
    _, loss, _ = system.losses(given, 0)
    code = system.encoder(x)[-1]
    made = system.decoder(system.encoder(x), told)
    fake, font = system.critic(torch.cat([x, made], 1))
    torch.testing.assert_close(loss.parts["game"], bce(fake, torch.ones_like(fake)))
    torch.testing.assert_close(loss.parts["l1"], 100 * (made - y).abs().mean())
    torch.testing.assert_close(loss.parts["constant"], 15 * (system.encoder(made)[-1] - code).square().mean())
    torch.testing.assert_close(loss.parts["category"], bce(font, told))


def test_no_gradient_crosses_to_the_other_player():
    system = built()
    stream = system.losses(batch(), 0)
    next(stream).value.backward()
    generator = [*system.encoder.parameters(), *system.decoder.parameters()]
    assert all(p.grad is None for p in generator)
    system.zero_grad()
    next(stream).value.backward(inputs=generator)
    assert all(p.grad is None for p in system.critic.parameters())
    assert all(p.grad is not None for p in generator)


def test_fonts_by_chance_have_no_true_picture():
    """Twice as many are made and judged; the distance is that of the first half alone."""
    given, plain = batch(), built()
    shuffled = built(replace(SMALL, shuffle=True))
    _, alone, _ = plain.losses(given, 0)
    critic, both, _ = shuffled.losses(given, 0)
    torch.testing.assert_close(both.parts["l1"], alone.parts["l1"])
    assert not torch.isclose(both.parts["game"], alone.parts["game"])
    chance = Rng.training(0, 0, range(3)).integers(0, 3)
    x, told = given["source"], torch.eye(3)[torch.cat([torch.arange(3), chance])]
    made = shuffled.decoder([torch.cat([level, level]) for level in shuffled.encoder(x)], told)
    fake = shuffled.critic(torch.cat([torch.cat([x, x]), made], 1))[0]
    torch.testing.assert_close(critic.parts["made"], 2 * bce(fake, torch.zeros_like(fake)))


def test_both_pictures_of_a_pair_are_cut_alike():
    x = torch.rand(6, 1, 17, 21)
    a, b = zoomed(x, x.clone(), 1.5, Rng.training(0, 0, range(6)))
    assert torch.equal(a, b)
    assert (a - x).abs().mean() > 0.01
    ramp = torch.linspace(-1, 1, 21).expand(6, 1, 17, 21)
    cut, _ = zoomed(ramp, ramp, 1.5, Rng.training(0, 0, range(6)))
    steps = cut[:, 0, 8].diff(dim=1)[:, 2:-2] / 0.1
    assert steps.min() > 1 / 1.5 - 0.01
    assert steps.max() < 1.01
    assert zoomed(x, x, 1.0, Rng.training(0, 0, range(6)))[0] is x


def test_a_frozen_encoder_stays():
    system = built(replace(SMALL, freeze_encoder=True))
    moving = {id(p) for p in system.players()["generator"].parameters()}
    assert not moving & {id(p) for p in system.encoder.parameters()}
    assert {id(p) for p in system.decoder.parameters()} == moving


def test_training_shows_examples_in_their_own_fonts():
    given = batch()
    tried = trial(built(), given, 7)
    assert isinstance(tried.request, Letters)
    assert (tried.request.font, tried.request.seed) == ((0, 1, 2), 7)
    assert tried.wanted is given["image"]
    assert tried.simple is given["source"]


# --- fonts as weights --------------------------------------------------------------------------------


def test_fonts_are_told_by_name_number_or_in_turn():
    system = built()
    fat = asked(system, font="fat")
    assert torch.equal(fat, asked(system, font=1))
    mixed = asked(system, font=("old", 1))
    assert torch.equal(mixed[1], fat[1])
    torch.testing.assert_close(mixed[::2], asked(system, font=2)[::2])
    assert not torch.allclose(asked(system, font=0), fat, atol=1e-3)


@pytest.mark.parametrize("norm", ["picture", "batch", "conditional"])
def test_a_way_leads_from_font_to_font(norm):
    system = built(replace(SMALL, generator=replace(SMALL.generator, norm=norm)))
    ends = [asked(system, font=0), asked(system, font=2)]
    way = [asked(system, font=0, towards=2, share=share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    torch.testing.assert_close(way[0], ends[0])
    torch.testing.assert_close(way[4], ends[1])
    from_start = torch.stack([(step - ends[0]).abs().mean() for step in way])
    assert (from_start.diff() > 0).all()
    half = asked(system, font=0, towards=2, share=(0.0, 0.5))
    torch.testing.assert_close(half[1], way[2][1])


def test_the_font_acts_by_its_embedding_alone():
    system = built()
    torch.nn.init.zeros_(system.decoder.embedding)
    assert torch.equal(asked(system, font=0), asked(system, font=2))


def test_conditional_norms_are_fonts_own():
    system = built(replace(SMALL, generator=replace(SMALL.generator, norm="conditional")))
    torch.nn.init.zeros_(system.decoder.embedding)
    assert not torch.allclose(asked(system, font=0), asked(system, font=2), atol=1e-4)


# --- networks ----------------------------------------------------------------------------------------


def test_published_shapes():
    """kaonashi-tyc/zi2zi: codes of 512 + 128 at a single place, kernels of 5 x 5, heads on 32 x 32 places."""
    config = Zi2Zi.presets["paper"].config
    with torch.device("meta"):
        system = Zi2Zi(config)
        seen = system.encoder(torch.zeros(2, 1, 256, 256))
        made = system.decoder(seen, torch.zeros(2, 40))
    assert [level.shape[1] for level in seen] == [64, 128, 256, 512, 512, 512, 512, 512]
    assert seen[-1].shape[2:] == (1, 1)
    assert [conv.in_channels for conv in system.decoder.convs] == [640, *[1024] * 4, 512, 256, 128]
    assert made.shape == (2, 1, 256, 256)
    assert system.decoder.embedding.shape == (40, 128)
    assert system.critic.real.in_features == 512 * 32 * 32
    assert system.critic.font.out_features == 40


def test_any_size_is_drawn_and_comes_back():
    config = LetteringUNetConfig(width=2, levels=3, fonts=2, embedding=3, norm="picture")
    encoder, decoder = LetteringEncoder(config), LetteringDecoder(config)
    x = torch.rand(2, 1, 19, 30)
    assert decoder(encoder(x), torch.eye(2)).shape == (2, 1, 24, 32)
    system = built()
    *_, answer = system.eval().run(Letters(images=x, count=2))
    assert answer.pixels.shape == x.shape
    critic = FontCritic(FontCriticConfig(height=19, width=30, first=2, fonts=5))
    real, font = critic(torch.rand(3, 2, 19, 30))
    assert (real.shape, font.shape) == ((3, 1), (3, 5))


def test_it_fits_itself_to_fonts():
    facts = Facts("odd", 1, 24, 40, frozenset({"source", "image", "label"}), classes=("a", "b"))
    fitted = Zi2Zi.fit(Zi2ZiConfig(), facts)
    assert (fitted.fonts, fitted.height, fitted.width, fitted.generator.levels) == (("a", "b"), 24, 40, 5)
    with pytest.raises(UsageError, match="learns fonts by their label, but 'odd' has none; give it fonts"):
        Zi2Zi.fit(Zi2ZiConfig(), replace(facts, classes=()))


# --- going on ----------------------------------------------------------------------------------------


def test_new_fonts_begin_as_the_mean_of_the_known():
    base = built()
    system = built(replace(SMALL, fonts=("new", "newer")))
    system.adopt(base)
    torch.testing.assert_close(system.decoder.embedding, base.decoder.embedding.mean(0).expand(2, -1))
    for name, tensor in system.encoder.state_dict().items():
        assert torch.equal(tensor, base.encoder.state_dict()[name])
    same = built(SMALL)
    same.adopt(base)
    assert torch.equal(same.decoder.embedding, base.decoder.embedding)


def test_other_bases_are_refused():
    with pytest.raises(UsageError, match="zi2zi goes on from a run of zi2zi, got Pix2Pix"):
        built().adopt(Pix2Pix(Pix2PixConfig(channels=1)))
    wide = built(replace(SMALL, generator=replace(SMALL.generator, width=5)))
    with pytest.raises(
        UsageError, match=r"The base has 'encoder\.\S+' of .*, here it is .*; train with the same"
    ):
        built().adopt(wide)


# --- refusals ----------------------------------------------------------------------------------------


def test_what_it_cannot_draw_is_refused():
    system = built()
    for how, message in (
        ({"font": "fatt"}, "Unknown font 'fatt'; did you mean 'fat'"),
        ({"font": 3}, "Font 3 is out of range; this model knows 0 to 2"),
        ({"font": ()}, "font is an empty tuple; give at least one"),
        ({"towards": 1, "share": 1.5}, "The share of the second font is between 0 and 1, got 1.5"),
    ):
        with pytest.raises(UsageError, match=message):
            asked(system, **how)
    with pytest.raises(UsageError, match="draws pictures of 1 channels, got 3; convert first"):
        list(system.run(Letters(images=torch.zeros(1, 3, 16, 24))))
    with pytest.raises(UsageError, match="There is no character to draw"):
        list(system.run(Letters(images=torch.zeros(0, 1, 16, 24))))


def test_what_cannot_be_built_is_refused():
    with pytest.raises(UsageError, match="The U-Net of zi2zi needs 2 levels, got 1"):
        Zi2Zi(replace(SMALL, generator=replace(SMALL.generator, levels=1)))
    with pytest.raises(UsageError, match="Kernels of zi2zi have a middle, got 4"):
        Zi2Zi(replace(SMALL, generator=replace(SMALL.generator, kernel=4)))
    with pytest.raises(UsageError, match="needs turns and zoom of at least 1, got 0 and 1"):
        Zi2Zi(replace(SMALL, turns=0))
