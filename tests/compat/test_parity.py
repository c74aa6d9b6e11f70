"""Our pictures against diffusers' own, from the same folder, seed, steps, guidance and size."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
)

from sfumato.apps.load import load
from sfumato.core.request import Generate, Images
from sfumato.systems.diffusion.ddpm import DDPM
from sfumato.systems.diffusion.ldm import LDM
from tests.compat.folders import ddpm, stable_diffusion

TOLERANCE = 2 / 255
SOLVERS = {
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
    "plms": PNDMScheduler,
}
PROMPTS = ("a red circle above the sea!", "stars")


def picture(system, **request):
    """Pixels in [0, 1]."""
    *_, last = system.run(Generate(**{"count": 2, "seed": 7, **request}))
    assert isinstance(last, Images)
    return last.pixels / 2 + 0.5


def theirs(pipe, **request):
    request = {"count": 2, "seed": 7, **request}
    count, seed = request.pop("count"), request.pop("seed")
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    pixels = pipe(generator=generators, output_type="np", **request).images
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def opened(folder, kind=StableDiffusionPipeline):
    pipe = kind.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def scheduler(folder, solver, **settings):
    """Another scheduler on the folder's file; latents are never clipped."""
    more = {"plms": {"skip_prk_steps": True}, "ddim": {"clip_sample": False}}.get(solver, {})
    return SOLVERS[solver].from_config(SOLVERS[solver].load_config(folder / "scheduler"), **more, **settings)


def apart(a, b):
    assert a.shape == b.shape
    return (a - b).abs().max()


@pytest.fixture(scope="module", params=[1, 2], ids=["eps", "v"])
def folder(request, tmp_path_factory):
    return stable_diffusion(tmp_path_factory.mktemp("sd") / "model", request.param)


@pytest.fixture(scope="module")
def system(folder):
    return LDM.from_diffusers(folder)


@pytest.fixture(scope="module")
def pipe(folder):
    return opened(folder)


def told(steps, guidance, negative="blue", height=40, width=56):
    """The same request in both languages."""
    ours = {"prompt": PROMPTS, "negative": negative, "height": height, "width": width}
    other = {"prompt": list(PROMPTS), "negative_prompt": [negative] * 2, "height": height, "width": width}
    return (
        {**ours, "steps": steps, "guidance": guidance},
        {**other, "num_inference_steps": steps, "guidance_scale": guidance},
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_stable_diffusion(folder, pipe, system, solver):
    ours, other = told(6, 4.0)
    pipe.scheduler = scheduler(folder, solver)
    assert apart(picture(system, solver=solver, **ours), theirs(pipe, **other)) <= TOLERANCE


def test_many_steps_without_guidance(folder, pipe, system):
    ours, other = told(9, 1.0)
    pipe.scheduler = scheduler(folder, "dpmpp_2m")
    assert apart(picture(system, solver="dpmpp_2m", **ours), theirs(pipe, **other)) <= TOLERANCE


def test_one_step(folder, pipe, system):
    ours, other = told(1, 2.0)
    pipe.scheduler = scheduler(folder, "plms")
    assert apart(picture(system, solver="plms", **ours), theirs(pipe, **other)) <= TOLERANCE


def test_another_size(folder, system):
    ours, other = told(3, 3.0, negative="", height=24, width=72)
    assert apart(picture(system, **ours), theirs(opened(folder), **other)) <= TOLERANCE


def test_the_folders_own_defaults(folder, system):
    want = theirs(opened(folder), prompt=list(PROMPTS), num_inference_steps=3)
    answer = picture(system, prompt=PROMPTS, steps=3)
    assert answer.shape == (2, 3, 40, 56)
    assert apart(answer, want) <= TOLERANCE
    loaded = load(folder, precision="fp32", device="cpu")
    assert apart(picture(loaded, prompt=PROMPTS, steps=3), answer) <= 1e-4


def test_what_is_cut_and_what_is_not_used_is_noted(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "sd")
    index = tmp_path / "sd" / "model_index.json"
    checker = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    index.write_text(json.dumps({**json.loads(index.read_text()), **checker}))
    *_, last = LDM.from_diffusers(tmp_path / "sd").run(
        Generate(prompt="a red circle above", count=1, steps=1)
    )
    cut, unused = last.notes
    assert "of the words of 'a red circle above' could not be read" in cut
    assert unused == f"'{tmp_path / 'sd'}' has a safety_checker, which is not used."


@pytest.mark.parametrize(("solver", "spacing"), [("euler", "leading"), ("dpmpp_2m", "trailing")])
def test_spacings(folder, pipe, system, solver, spacing):
    ours, other = told(3, 3.0)
    pipe.scheduler = scheduler(folder, solver, timestep_spacing=spacing)
    assert apart(picture(system, solver=solver, spacing=spacing, **ours), theirs(pipe, **other)) <= TOLERANCE


@pytest.mark.parametrize("solver", ["euler", "dpmpp_2m"])
def test_karras_sigmas(folder, pipe, system, solver):
    """Between its training times diffusers tells the network another index of the same noise."""
    ours, other = told(6, 2.0)
    pipe.scheduler = scheduler(folder, solver, use_karras_sigmas=True)
    want = theirs(pipe, **other)
    assert apart(picture(system, solver=solver, spacing="karras", **ours), want) <= 8 * TOLERANCE


def test_ddim_to_the_end_of_a_rescaled_schedule(folder, pipe, system, tmp_path):
    """Zero terminal SNR (Lin et al. 2024) needs v and trailing steps."""
    if system.config.predicts == "eps":
        assert pipe.scheduler.config.prediction_type == "epsilon"
        return
    pipe.scheduler = scheduler(folder, "ddim", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    pipe.save_pretrained(tmp_path / "zero")
    ours, other = told(5, 3.0)
    zero = LDM.from_diffusers(tmp_path / "zero")
    assert zero.config.process.schedule.zero_snr
    want = theirs(pipe, **other)
    assert apart(picture(zero, **ours), want) <= TOLERANCE
    assert apart(picture(system, solver="ddim", spacing="trailing", **ours), want) > 3 * TOLERANCE


def test_controls(folder, system):
    """What must change the picture does, by far more than the tolerance; nothing is hidden by clipping."""
    ours, _ = told(5, 4.0)
    base = picture(system, solver="ddim", **ours)
    inside = ((base > 0) & (base < 1)).double().mean()
    assert inside > 0.8
    others = {
        "seed": picture(system, solver="ddim", **ours, seed=9),
        "prompt": picture(system, solver="ddim", **{**ours, "prompt": ("a blue square", "a dog")}),
        "negative": picture(system, solver="ddim", **{**ours, "negative": "red"}),
        "guidance": picture(system, solver="ddim", **{**ours, "guidance": 1.5}),
        "steps": picture(system, solver="ddim", **{**ours, "steps": 6}),
        "dpmpp_2m": picture(system, solver="dpmpp_2m", **ours),
        "plms": picture(system, solver="plms", **ours),
        "euler": picture(system, solver="euler", **ours, spacing="linspace"),
    }
    for name, other in others.items():
        assert apart(base, other) > 5 * TOLERANCE, name


def test_what_we_export_gives_the_same_picture(folder, system, tmp_path):
    system.to_diffusers(tmp_path / "new")
    ours, other = told(5, 4.0)
    want = picture(system, **ours)
    assert apart(theirs(opened(tmp_path / "new"), **other), want) <= TOLERANCE
    assert apart(picture(LDM.from_diffusers(tmp_path / "new"), **ours), want) == 0


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"variance_type": "fixed_large"},
        {"prediction_type": "v_prediction", "timestep_spacing": "trailing"},
    ],
    ids=["small", "large", "v"],
)
def test_ddpm(tmp_path, settings):
    def sampled(folder):
        generators = [torch.Generator().manual_seed(7 + i) for i in range(3)]
        pipe = opened(folder, DDPMPipeline)
        pixels = pipe(batch_size=3, generator=generators, num_inference_steps=10, output_type="np").images
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)

    want = sampled(ddpm(tmp_path / "one", **settings))
    system = DDPM.from_diffusers(tmp_path / "one")
    answer = picture(system, count=3, steps=10)
    assert apart(answer, want) <= TOLERANCE
    assert apart(answer, picture(system, count=3, steps=10, seed=8)) > 0.2
    system.to_diffusers(tmp_path / "two")
    assert apart(sampled(tmp_path / "two"), want) <= TOLERANCE


def test_a_long_prompt_in_rows(folder, pipe, system):
    """As one does with diffusers: rows read one by one, laid one after the other."""
    long, short = "a red circle above the sea and the stars, red star", "stars"
    words = pipe.tokenizer(long, add_special_tokens=False)["input_ids"]
    room = system.reader.tokenizers[0].room
    assert 2 * room < len(words) <= 3 * room

    def read(numbers):
        rows = [numbers[start : start + room] for start in range(0, 3 * room, room)]
        ids = [system.reader.tokenizers[0].row(row) for row in rows]
        with torch.no_grad():
            return pipe.text_encoder(torch.tensor(ids))[0].flatten(0, 1)[None].expand(2, -1, -1)

    nothing = pipe.tokenizer(short, add_special_tokens=False)["input_ids"]
    told = {"prompt_embeds": read(words), "negative_prompt_embeds": read(nothing)}
    size = {"height": 40, "width": 56}
    want = theirs(opened(folder), **told, **size, num_inference_steps=3, guidance_scale=3.0)
    request = {"prompt": long, "negative": short, **size, "steps": 3, "guidance": 3.0}
    answer = picture(system, **request, chunked=True)
    assert apart(answer, want) <= TOLERANCE
    assert apart(answer, picture(system, **request)) > 5 * TOLERANCE
