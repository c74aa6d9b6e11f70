"""Latent diffusion's other tasks: what lies beside the latents, the same in training as in serving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from sfumato.core.masks import drawn
from sfumato.core.process import Process
from sfumato.core.request import Edit, Generate, Images, Layout, Request, Translate, Upscale
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, System, TrainConfig
from sfumato.core.trainer import Trainer
from sfumato.data.boxes import Box
from sfumato.data.dataset import Facts, Subset
from sfumato.data.scenery import Scenery
from sfumato.data.shapes import Shapes
from sfumato.errors import DataError, UsageError
from sfumato.nn.autoencoder import AutoencoderConfig
from sfumato.nn.boxes import BoxesConfig
from sfumato.nn.condition import Condition
from sfumato.nn.transformer import DiTConfig, WordsConfig
from sfumato.systems.diffusion.beside import Map, Small
from sfumato.systems.diffusion.inpainting import Inpainting, InpaintingConfig
from sfumato.systems.diffusion.latent import LatentDiffusion
from sfumato.systems.diffusion.layout import LayoutConfig, LayoutToImage
from sfumato.systems.diffusion.ldm import LDM, LDMConfig
from sfumato.systems.diffusion.ldmsr import LDMSR, LDMSRConfig
from sfumato.systems.diffusion.semantic import SemanticConfig, SemanticSynthesis
from tests.compat.folders import inpainting, upscaler

STAGE = AutoencoderConfig(latent_channels=3, widths=(8,), blocks=1, groups=4, patch=4, attention=False)
WORDS = WordsConfig(vocabulary=("a", "red", "blue", "circle"), length=5, width=16, depth=1, heads=2)
SHAPE: Mapping[str, Any] = {
    "height": 24,
    "width": 40,
    "first_stage": STAGE,
    "network": DiTConfig(width=16, depth=1, heads=2),
    "steps": 3,
}
THINGS = ("red circle", "blue star")
MAKES = {
    "inpainting": lambda: Inpainting(InpaintingConfig(**SHAPE, text=WORDS)),
    "layout": lambda: LayoutToImage(
        LayoutConfig(**SHAPE, boxes=BoxesConfig(THINGS, most=3, width=16, depth=1, heads=2))
    ),
    "semantic": lambda: SemanticSynthesis(SemanticConfig(**SHAPE, labels=5)),
    "ldmsr": lambda: LDMSR(LDMSRConfig(**SHAPE)),
    "ldm": lambda: LDM(LDMConfig(**SHAPE, text=WORDS)),
}
IMAGES = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(4)) * 2 - 1
MASK = torch.zeros(2, 1, 24, 40)
MASK[0, :, 4:16, 12:30] = 1
MASK[1, :, 0:9, 30:40] = 1


def tiny(name: str) -> Any:
    """Layers that start at zero are woken, so that all it is told shows."""
    torch.manual_seed(3)
    system = MAKES[name]().eval()
    for p in system.denoiser.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.2)
    return system


@torch.no_grad()
def answer(system: System[Any], request: Request) -> Images:
    *_, result = system.run(request)
    assert isinstance(result, Images)
    return result


class Seen:
    """What a denoiser is told, as it is told."""

    def __init__(self, system: LatentDiffusion):
        self.conds: list[Condition] = []
        system.denoiser.network.register_forward_pre_hook(lambda _, inputs: self.conds.append(inputs[2]))

    @property
    def spatial(self) -> Tensor:
        spatial = self.conds[-1].spatial
        assert spatial is not None
        return spatial


def train_once(system: LatentDiffusion, fields: Mapping[str, Any], count: int) -> Rng:
    """One loss; gives streams in the state in which the losses leave what comes before ``shown``."""
    latent = torch.zeros(count, 3, 6, 10)
    ids = system.reader.said(
        fields | {"image": torch.zeros(count, 3, 24, 40)}, Facts("", 3, 24, 40, frozenset())
    )
    batch = {"mean": latent, "std": latent, "ids": ids} | dict(fields)
    [loss] = system.losses(Batch(batch, Rng.training(0, 0, range(count))), 0)
    assert loss.value.isfinite()
    rng = Rng.training(0, 0, range(count))
    rng.normal(3, 6, 10)
    rng.uniform()
    return rng


# --- a base's denoiser -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["inpainting", "semantic", "ldmsr", "layout"])
def test_what_a_base_has_learned_is_taken_and_what_is_new_is_not_heeded(name):
    base, system = tiny("ldm"), tiny(name)
    base.latent_mean.fill_(0.3)
    system.adopt(base)
    assert torch.equal(system.latent_mean, base.latent_mean)
    for part in ("first_stage", "denoiser"):
        mine, theirs = getattr(system, part).state_dict(), getattr(base, part).state_dict()
        for key in mine.keys() & theirs.keys():
            if mine[key].shape == theirs[key].shape:
                assert torch.equal(mine[key], theirs[key]), key
    wide, narrow = (x.denoiser.network.enter.weight for x in (system, base))
    assert torch.equal(wide[:, : narrow.shape[1]], narrow)
    assert not wide[:, narrow.shape[1] :].any()


def test_the_scale_of_latents_is_measured_or_taken_over():
    base, system = tiny("ldm"), tiny("ldmsr")
    fresh = tiny("ldmsr")
    data = Subset(Shapes("train", 48), range(5))
    fresh.prepare(data)
    assert not torch.equal(fresh.latent_std, torch.ones(3, 1, 1))
    base.latent_std.fill_(1.7)
    system.adopt(base)
    system.prepare(data)
    assert torch.equal(system.latent_std, base.latent_std)


@torch.no_grad()
def test_an_inpainting_model_begins_as_its_base():
    base, system = tiny("ldm"), tiny("inpainting")
    system.adopt(base)
    z, t = torch.randn(2, 3, 6, 10), torch.tensor([0.4, 0.7])
    read = base.reader.read(base.reader.encode(["a red circle", "a blue circle"]))
    beside = replace(read, spatial=torch.randn(2, 4, 6, 10))
    torch.testing.assert_close(system.denoiser(z, t, beside).x0, base.denoiser(z, t, read).x0)


def test_of_a_denoiser_of_another_shape_the_first_stage_alone_is_taken():
    system = tiny("ldmsr")
    before = system.denoiser.state_dict()["network.enter.weight"].clone()
    other = replace(LDMConfig(**SHAPE, text=WORDS), network=DiTConfig(width=16, depth=2, heads=2))
    base = LDM(other)
    system.adopt(base)
    assert torch.equal(system.denoiser.state_dict()["network.enter.weight"], before)
    assert torch.equal(
        system.first_stage.state_dict()["encoder.conv_in.weight"],
        base.first_stage.state_dict()["encoder.conv_in.weight"],
    )


# --- inpainting --------------------------------------------------------------------------------------


def test_masks_and_what_is_outside_of_them_are_seen_alike_in_training_and_serving():
    system = tiny("inpainting")
    seen = Seen(system)
    rng = train_once(system, {"image": IMAGES, "caption": ["a red circle", ""]}, 2)
    mask = drawn(rng, 24, 40)
    known = system._encode(IMAGES * (1 - mask), rng)
    small = interpolate(mask, (6, 10))
    torch.testing.assert_close(seen.spatial, torch.cat([small, known], 1))

    answer(system, Edit(prompt="", images=IMAGES, mask=MASK, count=2, guidance=1.0))
    assert torch.equal(seen.spatial[:, :1], interpolate(MASK, (6, 10)))
    inside = IMAGES.where(MASK == 0, torch.tensor(0.7))
    shown = seen.spatial
    answer(system, Edit(prompt="", images=inside, mask=MASK, count=2, guidance=1.0))
    assert torch.equal(seen.spatial, shown), "what lies under the mask is not seen"


def test_pixels_outside_the_mask_stay_to_the_bit_and_words_count_inside():
    system = tiny("inpainting")
    request = Edit(prompt="a red circle", images=IMAGES, mask=MASK, count=2, seed=3)
    made = answer(system, request).pixels
    assert torch.equal(made * (1 - MASK), IMAGES * (1 - MASK))
    assert ((made - IMAGES) * MASK).abs().max() > 0.1
    other = answer(system, replace(request, prompt="a blue circle")).pixels
    assert (other - made).abs().max() > 0.01


def test_without_a_mask_it_says_what_it_needs():
    with pytest.raises(UsageError, match="paints inside a mask of a given picture; give both"):
        answer(tiny("inpainting"), Edit(prompt="a red circle", images=IMAGES))


@pytest.mark.parametrize(("name", "wrong"), [("inpainting", "Generate"), ("ldmsr", "Generate")])
def test_other_tasks_are_refused(name, wrong):
    with pytest.raises(UsageError, match=f"does not serve a {wrong}; ask for another task"):
        answer(tiny(name), Generate(count=1))


# --- enlarging ---------------------------------------------------------------------------------------


def test_the_small_picture_is_seen_as_it_is():
    system = tiny("ldmsr")
    seen = Seen(system)
    train_once(system, {"image": IMAGES}, 2)
    small = interpolate(IMAGES, (6, 10), mode="bicubic", antialias=True).clamp(-1, 1)
    torch.testing.assert_close(seen.spatial, small)
    made = answer(system, Upscale(images=small, count=2)).pixels
    assert made.shape == IMAGES.shape
    assert torch.equal(seen.spatial, small)
    with pytest.raises(UsageError, match="knows no noise; leave it out"):
        answer(system, Upscale(images=small, count=2, noise=3))
    with pytest.raises(UsageError, match="trained without words"):
        answer(system, Upscale(images=small, count=2, prompt="a red circle"))


@pytest.mark.parametrize("kind", [inpainting, upscaler])
def test_stable_diffusions_kinds_can_be_trained(tmp_path, kind):
    """One step moves the U-Net and its text tower, and leaves the first stage alone."""
    system = LDM.from_diffusers(kind(tmp_path / "sd"))
    seen = Seen(system)
    trainer = Trainer(system, Subset(Shapes("train", 48), range(4)), TrainConfig(steps=1, batch=2, ema=0.0))
    before = {name: p.detach().clone() for name, p in system.named_parameters()}
    [report] = trainer.run()
    assert report.values()["denoiser/mse"] > 0
    moved = {name.split(".")[0] for name, p in system.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"denoiser", "text"}
    assert seen.spatial.shape[1] == system.denoiser.network.config.in_channels - 4


def test_noise_over_small_pictures_is_told():
    small, rng = Small(STAGE, Process(), classes=8), Rng.training(0, 0, range(64))
    images = torch.zeros(64, 3, 16, 24)
    shown = small.shown(Batch({"image": images}, rng), lambda x, _: x)
    assert shown.vector is not None
    assert shown.spatial is not None
    assert torch.equal(shown.vector.sum(1), torch.ones(64))
    level = shown.vector.argmax(1)
    assert level.unique().tolist() == list(range(8))
    t = (level + 1) / 8
    expected = Process().schedule.sigma(t).float()
    assert (shown.spatial.flatten(1).std(1) / expected - 1).abs().max() < 0.35


# --- maps --------------------------------------------------------------------------------------------


class Maps:
    """Maps of two or more colours, and pictures."""

    def __init__(self, colours: int = 3):
        self.facts = Facts("maps", 3, 24, 40, frozenset({"source", "image"}))
        self.palette = torch.tensor([[k, 255 - 20 * k, 7 * k] for k in range(colours)]) / 127.5 - 1

    def __len__(self) -> int:
        return 5

    def batch(self, indices: Tensor) -> Mapping[str, Any]:
        place = torch.arange(24)[:, None] // 5 + torch.arange(40) // 7
        number = (place + indices[:, None, None]) % len(self.palette)
        source = self.palette[number].movedim(3, 1)
        return {"source": source, "image": source.flip(1), "number": number}


def test_labels_are_found_in_the_data_and_counted_in_every_cell():
    data = Maps()
    lies = Map(STAGE, 5)
    lies.measure(data)
    batch = data.batch(torch.arange(5))
    shares = lies.shares(batch["source"])
    assert shares.shape == (5, 5, 6, 10)
    torch.testing.assert_close(shares.sum(1), torch.ones(5, 6, 10))
    for k, colour in enumerate(data.palette):
        [row] = ((lies.palette - colour).abs().amax(1) < 1e-5).nonzero()[:, 0].tolist()
        torch.testing.assert_close(shares[:, row], avg_pool2d((batch["number"] == k).float(), 4))
    near = (batch["source"] + 0.002).clamp(-1, 1)
    assert torch.equal(lies.shares(near), shares)


def test_too_many_colours_are_refused():
    with pytest.raises(DataError, match="more than 5 colours; each label needs one flat colour"):
        tiny("semantic").prepare(Maps(6))


def test_maps_are_seen_alike_in_training_and_serving():
    system, data = tiny("semantic"), Maps()
    fields = system.prepare(data).batch(torch.arange(2))
    seen = Seen(system)
    train_once(system, {"source": fields["source"]}, 2)
    shown = seen.spatial
    request = Translate(images=fields["source"], count=2, seed=1)
    made = answer(system, request).pixels
    assert torch.equal(seen.spatial, shown)
    other = answer(system, replace(request, images=fields["source"].flip(3))).pixels
    assert (other - made).abs().max() > 0.01
    with pytest.raises(UsageError, match="got direction 'back'; leave it out"):
        answer(system, replace(request, direction="back"))
    with pytest.raises(UsageError, match="does not serve a Generate"):
        answer(system, Generate(count=1))


# --- layouts -----------------------------------------------------------------------------------------

RED, BLUE = Box("red circle", 0.1, 0.2, 0.5, 0.9), Box("blue star", 0.5, 0.1, 0.8, 0.4)


def test_layouts_are_taken_in_turn():
    system = tiny("layout")
    request = Layout(layouts=((RED,), (RED, BLUE)), count=3, seed=5)
    made = answer(system, request)
    assert made.captions == ("red circle", "red circle, blue star", "red circle")
    assert made.seeds == (5, 6, 7)
    alone = answer(system, Layout(layouts=((RED, BLUE),), count=1, seed=6)).pixels
    assert (made.pixels[1:2] - alone).abs().max() < 1e-4
    other = answer(system, Layout(layouts=((RED, BLUE._replace(left=0.3)),), count=1, seed=6)).pixels
    assert (other - alone).abs().max() > 0.003


def test_layouts_that_cannot_be_are_refused():
    system = tiny("layout")
    for layouts, match in (
        ((), "There is no layout; give at least one"),
        (((),), "places 1 to 3 things, got 0"),
        (((RED,), (BLUE._replace(label="blue sta"),)), "knows no 'blue sta'; did you mean 'blue star'"),
    ):
        with pytest.raises(UsageError, match=match):
            answer(system, Layout(layouts=layouts))
    with pytest.raises(UsageError, match="does not serve a Generate; give boxes"):
        answer(system, Generate())


def test_boxes_are_learned_and_withheld():
    data = Subset(Scenery("train", 48), range(6))
    system = LayoutToImage(LayoutToImage.fit(tiny("layout").config, data.facts))
    fields = system.prepare(data).batch(torch.arange(6))
    assert torch.equal(fields["ids"], data.batch(torch.arange(6))["boxes"])
    given: list[Tensor] = []
    system.text.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    fields = {k: v[:1].expand(300, *v.shape[1:]) for k, v in fields.items()}
    list(system.losses(Batch(fields, Rng.training(0, 0, range(300))), 0))
    withheld = (given[0] == 0).flatten(1).all(1).float().mean().item()
    assert abs(withheld - system.config.drop) <= 3 * (0.1 * 0.9 / 300) ** 0.5
    narrow = replace(system.config, boxes=replace(system.config.boxes, most=2))
    with pytest.raises(UsageError, match=r"for 3 boxes, but this model reads 2; give --boxes\.most 3"):
        LayoutToImage(narrow).prepare(data)


def test_scenes_with_captions_are_prepared_with_their_pictures():
    system = Inpainting(Inpainting.fit(tiny("inpainting").config, Shapes("train", 48).facts))
    data = Subset(Shapes("train", 48), range(5))
    fields = system.prepare(data).batch(torch.tensor([3, 1]))
    assert torch.equal(fields["image"], data.batch(torch.tensor([3, 1]))["image"])
    assert fields["mean"].shape == (2, 3, 12, 12)
