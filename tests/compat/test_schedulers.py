"""Our grids against the timesteps and sigmas of diffusers' schedulers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)

from sfumato.compat.schedulers import (
    SchedulerSpec,
    grid_of,
    process_of,
    read_scheduler,
    spec_of,
    start_of,
    write_scheduler,
)
from sfumato.core.process import Cosine, Karras, LinearBetas, Process, ScaledLinear
from sfumato.errors import DataError, UsageError

CLASSES = {
    "ancestral": DDPMScheduler,
    "ddim": DDIMScheduler,
    "plms": PNDMScheduler,
    "euler": EulerDiscreteScheduler,
    "heun": HeunDiscreteScheduler,
    "dpmpp_2m": DPMSolverMultistepScheduler,
}
STEPS = [1, 2, 3, 5, 7, 13, 20, 30, 37, 50, 128, 333, 499]
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def theirs(solver, **settings):
    more = {"skip_prk_steps": True} if solver == "plms" else {}
    return CLASSES[solver](**{**SD, **more, **settings})


def read(scheduler, **changes):
    return read_scheduler({**scheduler.config, "_class_name": type(scheduler).__name__, **changes})


def visited(scheduler, solver):
    """Indices shown to the network, without the evaluations that belong to one step."""
    steps = scheduler.timesteps.double()
    if solver == "plms":
        return torch.cat([steps[:1], steps[2:]]) if len(steps) > 2 else steps
    return torch.cat([steps[:1], steps[1::2]])[: (len(steps) + 1) // 2] if solver == "heun" else steps


@pytest.mark.parametrize("spacing", [None, "leading", "trailing", "linspace"])
@pytest.mark.parametrize("solver", CLASSES)
def test_times(solver, spacing):
    for offset, total in ((0, 1000), (1, 1000), (1, 600)):
        settings = {"steps_offset": offset, "num_train_timesteps": total}
        scheduler = theirs(solver, **settings, **({"timestep_spacing": spacing} if spacing else {}))
        spec = read(scheduler)
        if spacing is None:
            spec = replace(spec, spacing=None)
        for steps in STEPS:
            scheduler.set_timesteps(steps)
            want = visited(scheduler, solver)
            if spacing == "trailing" and len(want) != steps:
                continue  # rounding gives diffusers one step more, at index -1
            times = grid_of(spec, solver, steps)
            assert times.dtype == torch.float64
            assert len(times) == steps + 1
            np.testing.assert_allclose(
                times[:-1] * total - 1, want, atol=1e-4, err_msg=f"{steps} steps, offset {offset}"
            )


@pytest.mark.parametrize("settings", [{}, {"timestep_spacing": "leading", "steps_offset": 1}])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp_2m"])
def test_sigmas_and_the_noise_to_start_from(solver, betas, settings):
    for final in ("zero", "sigma_min") if solver != "heun" else ("zero",):
        more = {} if solver == "heun" else {"final_sigmas_type": final}
        scheduler = theirs(solver, beta_schedule=betas, **settings, **more)
        spec = read(scheduler)
        schedule = process_of(spec).schedule
        for steps in STEPS:
            scheduler.set_timesteps(steps)
            want = scheduler.sigmas.double()
            want = torch.cat([want[:1], want[1::2]]) if solver == "heun" else want
            times = grid_of(spec, solver, steps)
            # diffusers multiplies alphas in single precision
            np.testing.assert_allclose(
                schedule.sigma(times) / schedule.alpha(times), want, rtol=2e-4, atol=1e-6
            )
            ratio = float(scheduler.init_noise_sigma) / float((want[0] ** 2 + 1).sqrt())
            assert start_of(spec, solver, times) == pytest.approx(
                ratio if solver != "dpmpp_2m" else 1.0, rel=1e-3
            )


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp_2m"])
@pytest.mark.parametrize("settings", [{}, {"timestep_spacing": "leading", "steps_offset": 1}])
def test_karras_sigmas(solver, settings):
    scheduler = theirs(solver, use_karras_sigmas=True, **settings)
    spec = read(scheduler)
    schedule = process_of(spec).schedule
    for steps in (2, 5, 20, 33):
        scheduler.set_timesteps(steps)
        want = scheduler.sigmas.double()
        want = torch.cat([want[:1], want[1::2]]) if solver == "heun" else want
        times = grid_of(spec, solver, steps)
        np.testing.assert_allclose(schedule.sigma(times) / schedule.alpha(times), want, rtol=3e-4, atol=1e-6)
        # the network is told the index rounded, or interpolated another way
        assert (times[:-1] * 1000 - 1 - visited(scheduler, solver)).abs().max() <= 0.6


def test_ddim_and_pndm_end_where_the_file_says():
    for solver in ("ddim", "plms"):
        for clean in (True, False):
            spec = read(theirs(solver, set_alpha_to_one=clean, steps_offset=1))
            assert grid_of(spec, solver, 20)[-1] == (0 if clean else 1 / 1000)
    assert grid_of(read(theirs("ddim", set_alpha_to_one=False)), "euler", 20)[-1] == 0
    assert grid_of(replace(SchedulerSpec(), ends_clean=None), "plms", 20)[-1] == 1 / 1000
    assert grid_of(replace(SchedulerSpec(), ends_clean=None), "ddim", 20)[-1] == 0
    # one index a step: the step after index 1 goes to index 0
    assert grid_of(SchedulerSpec(offset=1), "ddim", 600)[-1] == 1 / 1000


@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("zero_snr", [False, True])
def test_levels(betas, zero_snr):
    scheduler = theirs("ddim", beta_schedule=betas, rescale_betas_zero_snr=zero_snr, num_train_timesteps=500)
    process = process_of(read(scheduler))
    times = torch.arange(1, 501, dtype=torch.float64) / 500
    np.testing.assert_allclose(process.schedule.alpha(times) ** 2, scheduler.alphas_cumprod, atol=2e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"timestep_spacing": "trailing", "prediction_type": "v_prediction", "num_train_timesteps": 500},
        {"timestep_spacing": "leading", "steps_offset": 1, "beta_schedule": "squaredcos_cap_v2"},
    ],
)
@pytest.mark.parametrize("solver", CLASSES)
def test_what_we_write_diffusers_understands(solver, settings):
    spec = read(theirs(solver, **settings))
    config = write_scheduler(spec)
    assert read_scheduler(config) == spec
    scheduler = CLASSES[solver].from_config(config)
    assert type(scheduler).__name__ == config["_class_name"]
    assert not [key for key in config if key not in {**scheduler.config, "_class_name": ""}]
    for steps in (3, 20):
        scheduler.set_timesteps(steps)
        times = grid_of(spec, solver, steps)
        np.testing.assert_allclose(times[:-1] * spec.steps - 1, visited(scheduler, solver), atol=1e-4)


def test_special_settings_survive():
    for solver, settings in {
        "ancestral": {
            "variance_type": "fixed_large",
            "clip_sample_range": 1.5,
            "rescale_betas_zero_snr": True,
        },
        "ddim": {"clip_sample": False, "set_alpha_to_one": False, "rescale_betas_zero_snr": True},
        "plms": {"set_alpha_to_one": True},
        "euler": {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"},
        "dpmpp_2m": {"use_karras_sigmas": True, "rescale_betas_zero_snr": True},
    }.items():
        config = write_scheduler(read(theirs(solver, **settings)))
        again = CLASSES[solver].from_config(config)
        assert all(again.config[key] == value for key, value in settings.items()), solver


def test_a_process_is_described():
    for schedule in (LinearBetas(300, True, 1e-3, 1e-2), ScaledLinear(), Cosine(700)):
        assert process_of(spec_of(Process(schedule), "ddim", "eps")).schedule == schedule
    with pytest.raises(UsageError, match=r"no scheduler for Karras.*needs linear, scaled linear or cosine"):
        spec_of(Process(Karras()), "ddim", "eps")


def test_what_is_not_understood_is_refused():
    with pytest.raises(DataError, match=r"names the scheduler 'DDIMSchedular'.*did you mean 'DDIMScheduler'"):
        read_scheduler({"_class_name": "DDIMSchedular"})
    for key, value in {
        "trained_betas": [0.1],
        "thresholding": True,
        "beta_schedule": "sigmoid",
        "prediction_type": "flow_prediction",
        "timestep_spacing": "random",
        "variance_type": "fixed_small_log",
        "brand_new_setting": 3,
    }.items():
        with pytest.raises(DataError, match=f"sets {key} to .*is understood; pictures would differ"):
            read(theirs("ddim"), **{key: value})
    with pytest.raises(DataError, match="sets skip_prk_steps to False"):
        read(PNDMScheduler())
    with pytest.raises(DataError, match="sets skip_prk_steps to False"):
        read_scheduler({"_class_name": "PNDMScheduler"})
    with pytest.raises(DataError, match="sets algorithm_type to 'sde-dpmsolver"):
        read(theirs("dpmpp_2m", algorithm_type="sde-dpmsolver++"))
    with pytest.raises(UsageError, match="1000 steps are too many for a model trained with 1000; take fewer"):
        grid_of(SchedulerSpec(), "ddim", 1000)
    with pytest.raises(UsageError, match="no scheduler for the solver 'magic'; choose from"):
        write_scheduler(SchedulerSpec(solver="magic"))


def test_old_files_mean_their_defaults():
    """Stable Diffusion 1.5's own file, which says nothing of spacing or prediction."""
    config = {
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.6.0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    }
    spec = read_scheduler(config)
    assert spec == SchedulerSpec("plms", 1000, "scaled_linear", 0.00085, 0.012, offset=1, ends_clean=False)
    assert [float(grid_of(spec, s, 20)[-1]) for s in ("plms", "ddim", "euler")] == [1e-3, 1e-3, 0]
    for solver in ("plms", "ddim", "euler", "dpmpp_2m"):
        scheduler = CLASSES[solver].from_config(PNDMScheduler.from_config(config).config)
        scheduler.set_timesteps(20)
        np.testing.assert_allclose(
            grid_of(spec, solver, 20)[:-1] * 1000 - 1, visited(scheduler, solver), atol=1e-4
        )
