"""SDXL, its refiner and both chained: our pictures against diffusers', from the same folders and seeds."""

from __future__ import annotations

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline

from sfumato.core.request import Vary
from sfumato.core.rng import Rng
from sfumato.errors import UsageError
from sfumato.systems.diffusion.ldm import LDM
from tests.compat.folders import refiner, sdxl
from tests.compat.test_parity import PROMPTS, TOLERANCE, apart, opened, picture, theirs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sdxl(tmp_path_factory.mktemp("sdxl") / "base")


@pytest.fixture(scope="module")
def system(folder):
    return LDM.from_diffusers(folder)


@pytest.fixture(scope="module")
def pipe(folder):
    return opened(folder, StableDiffusionXLPipeline)


@pytest.fixture(scope="module")
def fine(tmp_path_factory):
    return refiner(tmp_path_factory.mktemp("sdxl") / "refiner")


@pytest.fixture(scope="module")
def finer(fine):
    return opened(fine, StableDiffusionXLImg2ImgPipeline)


OURS = {"prompt": PROMPTS, "height": 40, "width": 56, "steps": 2, "guidance": 4.0}
THEIRS = {
    "prompt": list(PROMPTS),
    "height": 40,
    "width": 56,
    "num_inference_steps": 2,
    "guidance_scale": 4.0,
}


def photos():
    """Two pictures in [-1, 1]."""
    return torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(4)) * 2 - 1


def varied(system, **request):
    *_, last = system.run(Vary(**{"count": 2, "seed": 7, "images": photos(), **request}))
    return last.pixels / 2 + 0.5


@pytest.mark.parametrize("negative", ["", "blue"])
def test_base(pipe, system, negative):
    """Without a negative prompt, zeros stand for it."""
    want = theirs(pipe, **THEIRS, **({"negative_prompt": [negative] * 2} if negative else {}))
    assert apart(picture(system, negative=negative, **OURS), want) <= TOLERANCE


def test_sizes_and_crops(pipe, system):
    told = {"original_size": (123, 77), "crops_coords_top_left": (5, 9)}
    want = theirs(pipe, **THEIRS, **told)
    answer = picture(system, **OURS, original=(123, 77), crop=(5, 9))
    assert apart(answer, want) <= TOLERANCE
    assert apart(answer, picture(system, **OURS)) > 5 * TOLERANCE


def test_the_folders_own_defaults(pipe, system):
    assert (system.config.steps, system.config.guidance, system.config.solver) == (50, 5.0, "euler")
    want = theirs(pipe, prompt=list(PROMPTS), num_inference_steps=1, height=40, width=56)
    assert apart(picture(system, prompt=PROMPTS, steps=1), want) <= TOLERANCE


def test_an_empty_negative_prompt_may_be_read(tmp_path):
    folder = sdxl(tmp_path / "read", force_zeros_for_empty_prompt=False)
    want = theirs(opened(folder, StableDiffusionXLPipeline), **THEIRS)
    assert apart(picture(LDM.from_diffusers(folder), **OURS), want) <= TOLERANCE


@pytest.mark.parametrize("strength", [0.7])
def test_refiner(fine, finer, strength):
    """Image to image, with the aesthetic scores 6 and 2.5."""
    told = {k: v for k, v in THEIRS.items() if k not in ("height", "width")}
    want = theirs(finer, **told, image=photos() / 2 + 0.5, strength=strength)
    ours = LDM.from_diffusers(fine)
    mine = {k: v for k, v in OURS.items() if k not in ("height", "width")}
    answer = varied(ours, **mine, strength=strength)
    assert apart(answer, want) <= TOLERANCE


def test_aesthetic_score(fine, finer):
    told = {k: v for k, v in THEIRS.items() if k not in ("height", "width")}
    ours = LDM.from_diffusers(fine)
    noise = Rng.sampling(7, 2).normal(4, 10, 14)
    finer.scheduler.set_timesteps(2)
    loud = noise * finer.scheduler.init_noise_sigma
    want = theirs(finer, **told, image=loud, denoising_start=0.001, aesthetic_score=9.0)
    answer = picture(ours, **OURS, aesthetic=9.0)
    assert apart(answer, want) <= TOLERANCE
    assert apart(answer, picture(ours, **OURS)) > 5 * TOLERANCE


@pytest.mark.parametrize("at", [0.5])
def test_base_and_refiner_in_turn(folder, pipe, fine, finer, at):
    told = {k: v for k, v in THEIRS.items() if k not in ("height", "width")} | {"num_inference_steps": 4}
    generators = [torch.Generator().manual_seed(7 + i) for i in range(2)]
    half = pipe(
        **THEIRS | {"num_inference_steps": 4}, generator=generators, denoising_end=at, output_type="latent"
    )
    want = theirs(finer, **told, image=half.images, denoising_start=at)
    both = LDM.from_diffusers(folder).refined(LDM.from_diffusers(fine), at)
    answer = picture(both, **OURS | {"steps": 4})
    assert apart(answer, want) <= TOLERANCE
    assert apart(answer, picture(LDM.from_diffusers(folder), **OURS | {"steps": 4})) > 3 * TOLERANCE


def test_controls(system):
    base = picture(system, **OURS)
    assert ((base > 0) & (base < 1)).double().mean() > 0.8
    others = {
        "seed": picture(system, **OURS, seed=9),
        "prompt": picture(system, **OURS | {"prompt": ("a blue square", "a dog")}),
        "negative": picture(system, **OURS, negative="red"),
    }
    for name, other in others.items():
        assert apart(base, other) > 5 * TOLERANCE, name


def test_what_we_export_gives_the_same_picture(folder, system, fine, tmp_path):
    system.to_diffusers(tmp_path / "new")
    want = picture(system, **OURS)
    assert apart(theirs(opened(tmp_path / "new", StableDiffusionXLPipeline), **THEIRS), want) <= TOLERANCE
    LDM.from_diffusers(fine).to_diffusers(tmp_path / "fine")
    again, first = (LDM.from_diffusers(place) for place in (tmp_path / "fine", fine))
    torch.testing.assert_close(again.state_dict(), first.state_dict(), rtol=0, atol=0)
    assert again.config.network.levels == first.config.network.levels
    assert (again.config.text, again.config.scheduler) == (first.config.text, first.config.scheduler)
    assert opened(tmp_path / "fine", StableDiffusionXLImg2ImgPipeline).config.requires_aesthetics_score


def test_what_a_model_is_not_told_is_refused(system):
    with pytest.raises(UsageError, match="is not told how beautiful pictures are; leave it out"):
        picture(system, aesthetic=7.0)
    with pytest.raises(UsageError, match=r"takes over at a share between 0 and 1 of the way, got 1\.5"):
        system.refined(system, 1.5)
    with pytest.raises(UsageError, match="strength must be above 0 and at most 1, got 0"):
        varied(system, strength=0.0)
