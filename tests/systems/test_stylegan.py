"""StyleGAN by configuration: phases of growth, both players' steps, mixing, truncation, walks, projection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfumato.core.augmentation import EVERY, Augmentation, AugmentConfig
from sfumato.core.projection import ProjectionConfig, distances, project
from sfumato.core.request import Generate, Images, Invert, Mix, Progress, Video, Walk
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss
from sfumato.data.dataset import Facts
from sfumato.errors import UsageError
from sfumato.nn.stylegan import StyleConfig
from sfumato.systems.gans.stylegan import Phase, StyleGAN, StyleGANConfig, phase

NET = StyleConfig(height=16, width=24, z=5, w=6, mapping=2, base=32, most=8)
SMALL = StyleGANConfig(NET, chunk=3)
OLD = replace(NET, norm="adain", skip=False, residual=False, grows=True)
GROWING = StyleGANConfig(OLD, grow=10, path_every=0)
PROGRESSIVE = StyleGANConfig(
    replace(OLD, norm="pixel", mapping=0, taps=(1, 1), noise=False),
    game="wasserstein",
    r1=0.0,
    path_every=0,
    penalty=10.0,
    drift=0.001,
    mixing=0.0,
    grow=10,
)


def built(config: StyleGANConfig) -> StyleGAN:
    torch.manual_seed(0)
    system = StyleGAN(config)
    for name, p in system.named_parameters():
        if name.endswith("strength"):
            torch.nn.init.constant_(p, 0.3)
    return system


@pytest.fixture(scope="module")
def system() -> StyleGAN:
    made = built(SMALL).eval()
    torch.nn.init.normal_(made.mapping.average)
    return made


def batch(seed: int = 0, size: int = 4) -> Batch:
    x = torch.rand(size, 3, 16, 24, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return Batch({"image": x}, Rng.training(seed, 0, range(size)))


def losses(system: StyleGAN, step: int, given: Batch | None = None) -> list[Loss]:
    return list(system.losses(given or batch(), step))


@torch.no_grad()
def answer(events: Iterator[object]) -> Tensor:
    *_, last = events
    assert isinstance(last, Images | Video)
    return last.pixels


# --- growth ------------------------------------------------------------------------------------------


def test_phases_stay_fade_and_stay():
    config = replace(GROWING, first=1)
    assert [level[0] for level in OLD.levels] == [8, 4, 2]
    assert [phase(config, step) for step in (0, 9, 10, 15, 19, 20, 29, 30, 10_000)] == [
        Phase(1, 1.0),
        Phase(1, 1.0),
        Phase(2, 0.0),
        Phase(2, 0.5),
        Phase(2, 0.9),
        Phase(2, 1.0),
        Phase(2, 1.0),
        Phase(2, 1.0),
        Phase(2, 1.0),
    ]
    assert phase(GROWING, 0) == Phase(0, 1.0)
    assert phase(SMALL, 0) == Phase(2, 1.0)


@pytest.mark.parametrize("config", [GROWING, PROGRESSIVE])
def test_only_what_is_shown_learns(config):
    system = built(config)
    for step, level in ((0, 0), (10, 1), (25, 1), (35, 2)):
        for loss in system.losses(batch(), step):
            system.zero_grad()
            loss.value.backward()
            assert loss.value.isfinite()
        assert [p.grad is not None for p in system.critic.entries[level].parameters()] == [True, True]
        for above in range(level + 1, 3):
            assert all(p.grad is None for p in system.critic.blocks[above - 1].parameters())


def test_real_pictures_fade_like_fakes():
    system, x = built(GROWING), batch()["image"]
    assert system._shown(x, Phase(0, 1.0)).shape == (4, 3, 4, 6)
    halved = torch.nn.functional.avg_pool2d(x, 2)
    assert torch.equal(system._shown(x, Phase(1, 1.0)), halved)
    blocks = torch.nn.functional.interpolate(halved, scale_factor=2)
    assert torch.allclose(system._shown(x, Phase(2, 0.25)), 0.75 * blocks + 0.25 * x, atol=1e-6)


def test_before_it_has_grown_up_it_answers_in_full_size():
    system = built(GROWING).eval()
    system.seen.fill_(3)
    pixels = answer(system.run(Generate(count=2)))
    assert pixels.shape == (2, 3, 16, 24)
    assert torch.equal(pixels[:, :, ::4, ::4], pixels[:, :, 3::4, 3::4])


def test_growth_and_skip_connections_are_refused_together():
    with pytest.raises(UsageError, match=r"which network.skip does not; set network.grows to true"):
        StyleGAN(replace(SMALL, grow=5))


# --- training ----------------------------------------------------------------------------------------


def test_penalties_are_lazy_and_as_heavy_as_they_are_rare():
    system = built(replace(SMALL, r1_every=4, path_every=2))
    said = [[(loss.player, *loss.parts) for loss in losses(system, step)] for step in range(4)]
    generator, critic = ("generator", "game"), ("critic", "game")
    assert said[0] == [generator, ("generator", "path"), critic, ("critic", "r1")]
    assert said[1] == [generator, critic]
    assert said[2] == [generator, ("generator", "path"), critic]
    eager, lazy = (losses(built(replace(SMALL, r1_every=every)), 0)[-1].value for every in (1, 16))
    assert torch.allclose(16 * eager, lazy, rtol=1e-5)


def test_r1_is_half_gamma_times_the_squared_gradient():
    system, given = built(replace(SMALL, r1=3.0, r1_every=1)), batch()
    x = given["image"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(system.critic(x).sum(), x)
    wanted = 1.5 * gradient.square().sum((1, 2, 3)).mean()
    assert torch.allclose(losses(system, 0, given)[-1].value, wanted, rtol=1e-4)


def test_lazy_players_move_more_carefully():
    players = StyleGAN(replace(SMALL, r1_every=16, path_every=4)).players()
    assert players["critic"].optim.lr == pytest.approx(2.5e-3 * 16 / 17)
    assert players["generator"].optim.betas == pytest.approx((0.0, 0.99 ** (4 / 5)))
    assert StyleGAN(replace(SMALL, r1=0.0)).players()["critic"].optim == SMALL.optim


def test_players_leave_each_other_alone():
    system = built(SMALL)
    theirs = {name: player.parameters() for name, player in system.players().items()}
    for loss in system.losses(batch(), 0):
        loss.value.backward(inputs=theirs[loss.player])
        others = [p for name, ps in theirs.items() if name != loss.player for p in ps]
        assert all(p.grad is None for p in others)
        system.zero_grad()


def test_twice_the_batch_gives_the_same_gradients():
    config = replace(SMALL, network=replace(NET, group=0, noise=False), mixing=0.0)
    x = batch()
    twice = Batch({"image": x["image"].repeat(2, 1, 1, 1)}, Rng(2 * x.rng.seeds))
    for one, both in zip(losses(built(config), 1, x), losses(built(config), 1, twice), strict=True):
        assert torch.allclose(one.value, both.value, rtol=1e-4), one.player


def test_the_average_style_follows_the_first_latent_only():
    system = built(replace(SMALL, mixing=1.0, path_every=0))
    rng = batch().rng
    w = system.mapping(rng.normal(5))
    losses(system, 1)
    assert torch.allclose(system.mapping.average, 0.005 * w.mean(0), atol=1e-6)


def test_mixed_styles_change_at_one_layer():
    system = built(replace(SMALL, mixing=0.5))
    styles = system._styles(Rng.training(0, 0, range(200)), Phase(2, 1.0))
    changes = (styles.diff(dim=1).abs().sum(2) > 0).sum(1)
    assert changes.max() == 1
    assert changes.float().mean().item() == pytest.approx(0.5, abs=0.1)
    early = system._styles(Rng.training(0, 0, range(200)), Phase(0, 1.0))
    assert (early[:, 1:].diff(dim=1) == 0).all()  # below, only the layers on show take part


def test_ada_grows_surer_with_the_critic():
    augmentation = Augmentation(AugmentConfig("ada", images=1000))
    for step in range(3 * EVERY):
        augmentation.follow(torch.ones(10, 1), step)
    assert augmentation.dose.item() == pytest.approx(3 * EVERY * 10 / 1000)
    for step in range(100 * EVERY):
        augmentation.follow(-torch.ones(10, 1), step)
    assert augmentation.dose == 0


@pytest.mark.parametrize("kind", ["diff", "ada"])
def test_gradients_pass_augmentation(kind):
    system = built(replace(SMALL, augment=AugmentConfig(kind)))
    system.augment.dose.fill_(0.8)
    for loss in system.losses(batch(), 0):
        loss.value.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in system.parameters())


# --- serving -----------------------------------------------------------------------------------------


def test_truncation_leads_to_the_average(system):
    rng = Rng.sampling(0, 2)
    styles = system._latents(rng)
    average = system.mapping.average
    assert torch.allclose(system._truncated(styles, 0.0), average.expand_as(styles))
    assert torch.equal(system._truncated(styles, 1.0), styles)
    half = system._truncated(styles, 0.5)
    assert torch.allclose(half - average, (styles - average) / 2, atol=1e-6)
    cut = built(replace(SMALL, cutoff=2))
    assert torch.equal(cut._truncated(styles, 0.5)[:, 2:], styles[:, 2:])


def test_mixing_takes_layers_from_either_side(system):
    def mixed(crossover: int | None) -> Tensor:
        return answer(system.run(Mix(coarse=(1, 2), fine=(3, 4, 5), crossover=crossover)))

    alone = answer(system.run(Generate(seed=1, count=2)))
    assert mixed(None).shape == (6, 3, 16, 24)
    assert torch.allclose(mixed(6).unflatten(0, (2, 3)), alone[:, None].expand(-1, 3, -1, -1, -1), atol=1e-5)
    of_fine = mixed(0).unflatten(0, (2, 3))
    assert not torch.allclose(of_fine[0, 0], of_fine[0, 1], atol=1e-2)
    assert torch.equal(mixed(None), mixed(3))
    with pytest.raises(UsageError, match="has 6 layers; crossover is 7, give 0 to 6"):
        list(system.run(Mix(coarse=(1,), fine=(2,), crossover=7)))
    with pytest.raises(UsageError, match="no styles to mix; ask a StyleGAN"):
        list(built(PROGRESSIVE).run(Mix(coarse=(1,), fine=(2,))))


@pytest.mark.parametrize("way", ["lerp", "slerp"])
def test_a_walk_passes_its_pictures(system, way):
    film = answer(system.run(Walk(seed=1, count=3, frames=4, way=way)))
    assert film.shape == (1, 9, 3, 16, 24)
    first = answer(system.run(Generate(seed=1, count=1)))
    assert torch.allclose(film[0, 0], first[0], atol=1e-5)
    loop = answer(system.run(Walk(seed=1, count=3, frames=4, way=way, loop=True)))
    assert loop.shape[1] == 12
    steps = (film[0, 1:] - film[0, :-1]).square().mean((1, 2, 3))
    assert steps.max() < (film[0, 0] - film[0, 4]).square().mean()


def test_walks_that_cannot_be_are_refused(system):
    with pytest.raises(UsageError, match="at least 2 pictures and no label, got 1 and None; set count"):
        list(system.run(Walk(count=1)))
    with pytest.raises(UsageError, match="walks between new pictures; invert yours first"):
        list(system.run(Walk(count=2, images=torch.zeros(2, 3, 16, 24))))


def test_it_fits_the_pictures_of_a_dataset():
    config = StyleGAN.fit(SMALL, Facts("odd", 1, 24, 40, frozenset({"image"})))
    made = StyleGAN(config).eval()
    assert made.channels == 1
    assert answer(made.run(Generate(count=1))).shape == (1, 1, 24, 40)


# --- projection --------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["w", "w+"])
def test_a_picture_of_its_own_is_found_again(system, space):
    rng = Rng.sampling(7, 2)
    target = system._pictures(system._latents(rng), None)
    events = list(system.run(Invert(count=2, images=target, space=space, steps=30)))
    *progress, last = events
    assert all(isinstance(event, Progress) for event in progress)
    assert isinstance(last, Images)
    assert last.latents is not None
    assert last.latents.shape == (2, 1 if space == "w" else 6, 6)
    start = system._pictures(system.mapping.average.expand(2, 6, -1), None)
    away = distances(start, target)
    assert (distances(last.pixels, target) < 0.4 * away).all()


def test_unknown_spaces_are_refused(system):
    with pytest.raises(UsageError, match="has the spaces 'w' and 'w\\+', got 's'; choose one"):
        list(system.run(Invert(images=torch.zeros(1, 3, 16, 24), space="s")))


def test_projection_follows_its_plan():
    plan = ProjectionConfig(steps=100, lr=0.1)
    assert plan.rate(0.01) == pytest.approx(0.02)
    assert plan.rate(0.5) == pytest.approx(0.1)
    assert plan.rate(0.875) == pytest.approx(0.05)
    assert plan.rate(1.0) == pytest.approx(0.0)
    assert plan.shake(0.0) == pytest.approx(0.05)
    assert plan.shake(0.75) == 0


def test_projection_solves_a_linear_picture():
    """A picture that is a linear function of one style, and no picture's search disturbs another's."""
    matrix = torch.randn(48, 5, generator=torch.Generator().manual_seed(0))

    def draw(styles: Tensor) -> Tensor:
        return (styles[:, 0] @ matrix.T).view(-1, 3, 4, 4)

    wanted = torch.randn(3, 1, 5, generator=torch.Generator().manual_seed(1))
    start, spread = torch.zeros(3, 1, 5), torch.tensor(1.0)
    plan = ProjectionConfig(steps=100)
    *_, found = project(draw, draw(wanted), start, spread, Rng.sampling(0, 3), plan)
    assert torch.allclose(found.styles, wanted, atol=0.05)
    one = slice(1, 2)
    *_, alone = project(draw, draw(wanted[one]), start[one], spread, Rng([1]), plan)
    assert torch.allclose(alone.styles, found.styles[one], atol=1e-4)
