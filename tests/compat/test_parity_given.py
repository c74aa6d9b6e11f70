"""Pictures from given ones: image to image, inpainting and upscaling, against diffusers' pipelines."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionUpscalePipeline,
)

from sfumato.core.request import Edit, Images, Upscale, Vary
from sfumato.errors import UsageError
from sfumato.systems.diffusion.ldm import LDM
from tests.compat.folders import inpainting, stable_diffusion, upscaler
from tests.compat.test_parity import PROMPTS, TOLERANCE, apart, opened, scheduler, theirs

PHOTOS = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(4)) * 2 - 1
MASK = torch.zeros(2, 1, 40, 56)
MASK[0, :, 8:24, 12:40] = 1
MASK[1, :, 3:40, 30:51] = 1
THEIRS = {"prompt": [PROMPTS[0]] * 2, "negative_prompt": ["blue"] * 2, "guidance_scale": 4.0}
OURS = {"count": 2, "seed": 7, "negative": "blue", "guidance": 4.0}


def answer(system, request):
    """Pixels in [0, 1]."""
    *_, last = system.run(request)
    assert isinstance(last, Images)
    return last.pixels / 2 + 0.5


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Stable Diffusion 1 and 2, which predict eps and v."""
    top = tmp_path_factory.mktemp("sd")
    return {version: stable_diffusion(top / str(version), version, 12) for version in (1, 2)}


@pytest.mark.parametrize(("version", "solver", "strength"), [(1, "euler", 1.0), (2, "dpmpp_2m", 0.5)])
def test_image_to_image(folders, version, solver, strength):
    folder = folders[version]
    pipe = opened(folder, StableDiffusionImg2ImgPipeline)
    pipe.scheduler = scheduler(folder, solver)
    want = theirs(pipe, **THEIRS, image=PHOTOS / 2 + 0.5, strength=strength, num_inference_steps=4)
    system = LDM.from_diffusers(folder)
    request = {**OURS, "images": PHOTOS, "prompt": PROMPTS[0], "steps": 4, "solver": solver}
    mine = answer(system, Vary(**request, strength=strength))
    assert apart(mine, want) <= TOLERANCE
    assert apart(mine, answer(system, Vary(**request, strength=0.25))) > 5 * TOLERANCE


def test_variations_of_one_picture_are_many(folders):
    system = LDM.from_diffusers(folders[2])
    many = answer(system, Vary(seed=5, count=3, images=PHOTOS[:1], steps=2, solver="ddim"))
    alone = answer(system, Vary(seed=7, count=1, images=PHOTOS[:1], steps=2, solver="ddim"))
    assert apart(many[2:], alone) <= 1e-4
    assert apart(many[:1], many[1:2]) > 5 * TOLERANCE


@pytest.mark.parametrize("strength", [1.0, 0.7])
def test_inpainting(tmp_path, strength):
    folder = inpainting(tmp_path / "inpaint")
    pipe = opened(folder, StableDiffusionInpaintPipeline)
    want = theirs(
        pipe,
        **THEIRS,
        image=PHOTOS / 2 + 0.5,
        mask_image=MASK,
        height=40,
        width=56,
        strength=strength,
        num_inference_steps=3,
    )
    system = LDM.from_diffusers(folder)
    assert system.can == (Edit,)
    request = {**OURS, "images": PHOTOS, "prompt": PROMPTS[0], "steps": 3, "strength": strength}
    mine = answer(system, Edit(**request, mask=MASK, keep=False))
    assert apart(mine, want) <= TOLERANCE
    if strength < 1:
        assert apart(mine, answer(system, Edit(**request, mask=1 - MASK, keep=False))) > 5 * TOLERANCE
        return
    kept = answer(system, Edit(**request, mask=MASK))
    torch.testing.assert_close(kept * (1 - MASK), (PHOTOS / 2 + 0.5) * (1 - MASK), rtol=0, atol=0)
    assert apart(kept * MASK, mine * MASK) == 0
    system.to_diffusers(tmp_path / "new")
    again = LDM.from_diffusers(tmp_path / "new")
    assert apart(answer(again, Edit(**request, mask=MASK, keep=False)), mine) == 0
    opened(tmp_path / "new", StableDiffusionInpaintPipeline)


def test_upscaling(tmp_path):
    folder = upscaler(tmp_path / "x4")
    small = PHOTOS[:, :, :12, :20] / 2 + 0.5
    pipe = opened(folder, StableDiffusionUpscalePipeline)
    want = theirs(pipe, **THEIRS, image=small / 2 + 0.5, num_inference_steps=2, noise_level=7)
    system = LDM.from_diffusers(folder)
    assert system.can == (Upscale,)
    assert (system.config.steps, system.config.guidance) == (75, 9.0)
    request = {**OURS, "images": small, "prompt": PROMPTS[0], "steps": 2}
    mine = answer(system, Upscale(**request, noise=7))
    assert mine.shape == (2, 3, 48, 80)
    assert apart(mine, want) <= TOLERANCE
    assert apart(mine, answer(system, Upscale(**request, noise=30))) > 5 * TOLERANCE
    system.to_diffusers(tmp_path / "new")
    again = LDM.from_diffusers(tmp_path / "new")
    assert apart(answer(again, Upscale(**request, noise=7)), mine) == 0
    opened(tmp_path / "new", StableDiffusionUpscalePipeline)
    with pytest.raises(UsageError, match="noise must be from 0 to 49, got 50"):
        answer(system, Upscale(**request, noise=50))


def test_what_must_be_given(tmp_path):
    system = LDM.from_diffusers(inpainting(tmp_path / "inpaint"))
    with pytest.raises(UsageError, match="paints inside a mask of a given picture; give both"):
        answer(system, Edit(prompt="red", images=PHOTOS))
    with pytest.raises(UsageError, match=r"mask has 40 x 50 pixels and the picture 40 x 56"):
        answer(system, Edit(prompt="red", images=PHOTOS, mask=MASK[:, :, :, :50]))
