"""Imagen: what order does to what is told, noise beside the small picture, and a cascade that stands on its
base."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from benchmarks.imagen import bag_bound
from sfumato.core.process import CosineLogSNR, Process
from sfumato.core.request import Generate, Images
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, OptimConfig, TrainConfig
from sfumato.core.trainer import Trainer
from sfumato.data.shapes.related import RelatedShapes, shape_stories
from sfumato.data.unigram import UnigramTokenizer
from sfumato.errors import DataError, UsageError
from sfumato.nn.t5 import T5Shape
from sfumato.nn.transformer import DiTConfig
from sfumato.nn.unet import UNetConfig
from sfumato.systems.diffusion.ddpm import DDPM, DDPMConfig
from sfumato.systems.diffusion.imagen import Imagen, ImagenConfig, StageConfig, shrunk
from sfumato.systems.text.t5 import T5, T5Config

DATA = RelatedShapes("train", 24, length=40)
READS = T5Config(
    T5Shape(width=16, head_width=8, hidden=24, layers=2, decoder_layers=1, heads=2, buckets=8, farthest=9),
    UnigramTokenizer(length=40),
    sentinels=4,
)
SMALL = StageConfig(shrink=2, network=DiTConfig(patch=2, width=16, depth=1, heads=2), width=12, steps=3)
LARGE = StageConfig(
    network=UNetConfig(widths=(8, 16), blocks=(1,), attend=(False, True), depth=(1,), groups=4, patch=2),
    width=12,
    steps=2,
    guidance=1.5,
)
ONE = "a red circle above a blue square"
OTHER = "a blue square above a red circle"


def woken(system: torch.nn.Module) -> None:
    """Layers that start at zero would hide what lies before them."""
    for p in system.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)


def language() -> T5:
    torch.manual_seed(0)
    return T5(T5.fit(READS, shape_stories("train", 24).facts))


def built(*stages: StageConfig, **settings: object) -> Imagen:
    torch.manual_seed(1)
    optim = OptimConfig("muon", lr=1e-2)
    config = ImagenConfig(text=READS, stages=stages, optim=optim, words=11, **settings)  # type: ignore[arg-type]
    system = Imagen(Imagen.fit(config, DATA.facts))
    woken(system)
    return system


def base() -> Imagen:
    system = built(SMALL)
    system.adopt(language())
    return system


def cascade() -> Imagen:
    below = base()
    system = built(SMALL, LARGE)
    system.adopt(below)
    return system


@torch.no_grad()
def drawn(system: Imagen, **request: object) -> Tensor:
    *_, answer = system.eval().run(Generate(**({"count": 2, "prompt": ONE} | request)))  # type: ignore[arg-type]
    assert isinstance(answer, Images)
    return answer.pixels


def told(system: Imagen, text: str) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        cond = system.readers[0].read(system.readers[0].encode([text]))
    assert cond.tokens is not None
    assert cond.vector is not None
    return cond.tokens[0], cond.vector[0]


def test_a_bag_of_words_is_told_the_same_in_any_order_and_a_language_is_not():
    whole, bag = base(), built(SMALL, bag=True)
    bag.adopt(language())
    for system, alike in ((bag, True), (whole, False)):
        (one, mean), (other, other_mean) = told(system, ONE), told(system, OTHER)
        order = [4, 5, 6, 3, 0, 1, 2, 7]  # where the words of one stand in the other
        assert torch.allclose(one[order], other[:8], atol=1e-5) == alike
        assert torch.allclose(mean, other_mean, atol=1e-5) == alike


def test_no_words_are_the_learned_vectors_of_their_places():
    system = base()
    tokens, mean = told(system, "")
    assert torch.equal(tokens, system.told[0].nothing)
    assert torch.allclose(mean, tokens.mean(0), atol=1e-6)
    tokens, mean = told(system, "a red circle")
    assert torch.equal(tokens[4:], system.told[0].nothing[4:]), "and those behind the end of a text"
    assert torch.allclose(mean, tokens[:4].mean(0), atol=1e-6)


def test_the_small_picture_is_noised_as_much_as_the_stage_is_told():
    system = cascade()
    small = torch.full((400, 3, 5, 3), 0.5)
    level = torch.full((400,), 0.3, dtype=torch.float64)
    noised, features = system.noised(small, (10, 6), level, Rng.sampling(0, 400))
    alpha, sigma = (
        system.config.noising.schedule.alpha(level)[0],
        system.config.noising.schedule.sigma(level)[0],
    )
    assert float(noised.mean()) == pytest.approx(0.5 * float(alpha), abs=0.01)
    assert float(noised.std()) == pytest.approx(float(sigma), rel=0.02)
    other = system.noised(small, (10, 6), 2 * level, Rng.sampling(0, 400))[1]
    assert features.shape == (400, 64)
    assert not torch.allclose(features, other, atol=0.1)
    clean, _ = system.noised(small, (10, 6), 0 * level, Rng.sampling(0, 400))
    assert torch.equal(clean, interpolate(small, (10, 6), mode="bilinear")), "no level, no noise"


def test_the_level_reaches_the_network():
    near = cascade()
    far = Imagen(replace(near.config, level=0.9))
    far.load_state_dict(near.state_dict())
    assert not torch.allclose(drawn(near), drawn(far), atol=1e-3)


def test_a_cascade_draws_at_the_size_of_the_data_what_its_base_drew_small():
    below, whole = base(), cascade()
    assert drawn(below).shape == (2, 3, 12, 12)
    assert drawn(whole).shape == (2, 3, 24, 24)
    assert drawn(whole, height=32, width=20).shape == (2, 3, 32, 20)
    mine, theirs = whole.state_dict(), below.state_dict()
    assert all(torch.equal(mine[name], t) for name, t in theirs.items())


def test_only_the_last_stage_learns():
    system = cascade()
    before = {name: p.clone() for name, p in system.named_parameters()}
    list(Trainer(system, DATA, TrainConfig(steps=1, batch=4, ema=0.0), device=torch.device("cpu")).run())
    moved = {name for name, p in system.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all(name.startswith(("stages.1.", "told.1.")) for name in moved)


def test_the_last_stage_learns_from_pictures_of_its_own_size():
    system, rng = base(), Rng.sampling(0, 3)
    seen = []
    system.stages[0].loss = lambda x0, t, cond, rng: seen.append(x0) or x0.mean()  # type: ignore[method-assign]
    fields = DATA.batch(torch.arange(3))
    next(system.losses(Batch(fields, rng), 0))
    assert torch.allclose(seen[0], interpolate(fields["image"], (12, 12), mode="area"), atol=1e-6)
    assert shrunk(seen[0], 1) is seen[0]


def test_thresholds_change_what_is_guided_strongly():
    system = base()
    ways = ("free", "static", "dynamic:.9")
    free, static, dynamic = (drawn(system, guidance=30.0, threshold=way) for way in ways)
    assert not torch.equal(static, dynamic)
    assert not torch.equal(static, free)
    with pytest.raises(UsageError, match="A threshold is static"):
        drawn(system, threshold="soft")


def test_it_takes_the_shape_of_the_base_it_is_given():
    other = T5(T5.fit(replace(READS, network=replace(READS.network, width=20, layers=1)), DATA.facts))
    config = Imagen.built_on(Imagen.fit(ImagenConfig(stages=(SMALL,)), DATA.facts), other)
    Imagen(config).adopt(other)
    below = built(SMALL, bag=True, process=Process(CosineLogSNR(shift=-2.0)))
    config = Imagen.built_on(ImagenConfig(stages=(StageConfig(), LARGE), level=0.3), below)
    assert config.stages == (SMALL, LARGE)
    assert config.bag
    assert config.process == below.config.process
    assert config.level == 0.3
    with pytest.raises(DataError, match=r"builds on a T5 .* got a DDPM"):
        Imagen.built_on(config, DDPM(DDPMConfig(network=UNetConfig(widths=(8,), groups=4, blocks=(1,)))))


def test_a_base_of_another_kind_or_shape_is_refused():
    with pytest.raises(DataError, match="builds on a T5 of its own shape"):
        built(SMALL, LARGE).adopt(language())
    with pytest.raises(DataError, match="or if there are stages below it on an Imagen"):
        built(LARGE).adopt(base())


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="multiples of 2, got 24 x 25"):
        drawn(base(), width=25, height=24)
    with pytest.raises(UsageError, match="multiples of 4, got 24 x 26"):
        drawn(cascade(), width=26, height=24)
    with pytest.raises(UsageError, match=r"ever less, such as 4, 2, 1; got \[1, 2\]"):
        built(LARGE, SMALL)


def test_words_it_does_not_know_are_told():
    *_, answer = base().eval().run(Generate(prompt="a crimson circle", count=1, steps=2))
    assert answer.notes == ("1 of the words of 'a crimson circle' could not be read and were left out.",)


def test_a_bag_of_words_shares_one_right_answer_among_all_captions_it_cannot_tell_apart():
    assert bag_bound(["a red circle above a blue cross"]) == 1 / 4
    assert bag_bound(["a red circle above a red cross"]) == 1 / 2, "one colour: the order alone is lost"
    assert bag_bound(["a red square left of a blue cross"]) == 1 / 2, "blue squares never occur"
