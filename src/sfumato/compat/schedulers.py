"""What diffusers calls a scheduler: a noise schedule, a solver and the way its steps are spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.compat.part import Keys, refusal
from sfumato.core.process import RHO, Cosine, LinearBetas, Process, ScaledLinear, Spacing
from sfumato.errors import DataError, UsageError, nearest

Betas = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
Predicts = Literal["eps", "v", "x0"]
Variance = Literal["small", "large", "learned"]
SOLVER_OF = {
    "DDPMScheduler": "ancestral",
    "DDIMScheduler": "ddim",
    "PNDMScheduler": "plms",
    "EulerDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
}
CLASS_OF = {solver: name for name, solver in SOLVER_OF.items()}
PREDICTS: dict[str, Predicts] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
VARIANCE: dict[str, Variance] = {"fixed_small": "small", "fixed_large": "large", "learned_range": "learned"}
OWN_SPACING: dict[str, Spacing] = {
    "ancestral": "leading",
    "ddim": "leading",
    "plms": "leading",
    "euler": "linspace",
    "heun": "linspace",
    "dpmpp_2m": "linspace",
}
"""How each of diffusers' schedulers spreads its steps where its file does not say."""
KEYS = Keys(
    read={
        "num_train_timesteps": 1000,
        "beta_schedule": "linear",
        "beta_start": 1e-4,
        "beta_end": 2e-2,
        "prediction_type": "epsilon",
        "timestep_spacing": None,
        "use_karras_sigmas": False,
        "steps_offset": 0,
        "set_alpha_to_one": None,
        "final_sigmas_type": "zero",
        "clip_sample": None,
        "clip_sample_range": 1.0,
        "rescale_betas_zero_snr": False,
        "variance_type": "fixed_small",
    },
    meant={
        "trained_betas": (None,),
        "thresholding": (False,),
        "skip_prk_steps": (True,),
        "interpolation_type": ("linear",),
        "timestep_type": ("discrete",),
        "solver_order": (2,),
        "solver_type": ("midpoint",),
        "algorithm_type": ("dpmsolver++",),
        "euler_at_final": (False,),
        "lower_order_final": (True,),
        "lambda_min_clipped": (float("-inf"),),
    },
    mute=("dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "time_shift_type", "tensor_format"),
)


@dataclass(frozen=True)
class SchedulerSpec:
    """A scheduler's file, in the terms of this house. ``None`` means that the file does not say."""

    solver: str = "ddim"
    steps: int = 1000
    """Of training."""
    betas: Betas = "linear"
    first: float = 1e-4
    last: float = 2e-2
    predicts: Predicts = "eps"
    spacing: Literal["leading", "trailing", "linspace"] | None = None
    karras: bool = False
    """Whether sigmas are spread as Karras et al. 2022 do, within the range of ``spacing``."""
    offset: int = 0
    """Added to the indices of "leading"."""
    ends_clean: bool | None = None
    """Whether DDIM's and PNDM's last step goes to t = 0, or stops at the least noise of training."""
    sigmas_end_clean: bool = True
    """The same for Euler and DPM-Solver."""
    clip: float | None = None
    """Limit of the predicted data."""
    zero_snr: bool = False
    variance: Variance = "small"


def read_scheduler(config: Mapping[str, Any], where: str = "scheduler_config.json") -> SchedulerSpec:
    """Understand a scheduler's file; what would change pictures and is not understood is a ``DataError``."""
    name = config.get("_class_name", "")
    if name not in SOLVER_OF:
        raise DataError(f"'{where}' names the scheduler '{name}', which is unknown{nearest(name, SOLVER_OF)}")
    said = KEYS.of(config, where)
    if name == "PNDMScheduler" and "skip_prk_steps" not in config:
        raise DataError(refusal(where, "skip_prk_steps", False, (True,)))
    clips = name in ("DDPMScheduler", "DDIMScheduler") if said["clip_sample"] is None else said["clip_sample"]
    choose = partial(_choose, said, where)
    return SchedulerSpec(
        solver=SOLVER_OF[name],
        steps=said["num_train_timesteps"],
        betas=choose("beta_schedule", ("linear", "scaled_linear", "squaredcos_cap_v2")),
        first=said["beta_start"],
        last=said["beta_end"],
        predicts=PREDICTS[choose("prediction_type", tuple(PREDICTS))],
        spacing=choose("timestep_spacing", (None, "leading", "trailing", "linspace")),
        karras=bool(said["use_karras_sigmas"]),
        offset=said["steps_offset"],
        ends_clean=said["set_alpha_to_one"],
        sigmas_end_clean=choose("final_sigmas_type", ("zero", "sigma_min")) == "zero",
        clip=float(said["clip_sample_range"]) if clips else None,
        zero_snr=said["rescale_betas_zero_snr"],
        variance=VARIANCE[choose("variance_type", tuple(VARIANCE))],
    )


def _choose(said: Mapping[str, Any], where: str, key: str, allowed: tuple[Any, ...]) -> Any:
    value = KEYS.read[key] if said[key] is None else said[key]
    if value not in allowed:
        raise DataError(refusal(where, key, value, allowed))
    return value


def write_scheduler(spec: SchedulerSpec) -> dict[str, Any]:
    """The file of the scheduler of diffusers that takes these steps."""
    if spec.solver not in CLASS_OF:
        raise UsageError(
            f"diffusers has no scheduler for the solver '{spec.solver}'{nearest(spec.solver, CLASS_OF)}"
        )
    config: dict[str, Any] = {
        "_class_name": CLASS_OF[spec.solver],
        "num_train_timesteps": spec.steps,
        "beta_schedule": spec.betas,
        "beta_start": spec.first,
        "beta_end": spec.last,
        "prediction_type": _theirs(spec.predicts),
        "steps_offset": spec.offset,
        "trained_betas": None,
    }
    # Left out, each scheduler spreads its steps in its own way.
    config |= {} if spec.spacing is None else {"timestep_spacing": spec.spacing}
    clean = ends_clean(spec, spec.solver)
    if spec.solver in ("ancestral", "ddim"):
        config |= {
            "clip_sample": spec.clip is not None,
            "clip_sample_range": spec.clip or 1.0,
            "thresholding": False,
        }
    if spec.solver in ("ddim", "plms"):
        config["set_alpha_to_one"] = clean
    if spec.solver == "plms":
        config["skip_prk_steps"] = True
    if spec.solver == "ancestral":
        config["variance_type"] = next(t for t, ours in VARIANCE.items() if ours == spec.variance)
    if spec.solver in ("euler", "dpmpp_2m"):
        config["final_sigmas_type"] = "zero" if clean else "sigma_min"
    if spec.solver in ("euler", "heun", "dpmpp_2m"):
        config["use_karras_sigmas"] = spec.karras
    if spec.solver == "dpmpp_2m":
        config |= {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
    if spec.solver not in ("plms", "heun"):
        config["rescale_betas_zero_snr"] = spec.zero_snr
    return config


def process_of(spec: SchedulerSpec) -> Process:
    """The process that the file describes."""
    match spec.betas:
        case "linear":
            return Process(LinearBetas(spec.steps, spec.zero_snr, spec.first, spec.last))
        case "scaled_linear":
            return Process(ScaledLinear(spec.steps, spec.zero_snr, spec.first, spec.last))
        case "squaredcos_cap_v2":
            return Process(Cosine(spec.steps, spec.zero_snr))


def spec_of(process: Process, solver: str, predicts: str) -> SchedulerSpec:
    """The description of a process, for writing; only discrete ones have a place in diffusers."""
    if predicts not in PREDICTS.values():
        raise UsageError(
            f"diffusers' schedulers know eps, v and x0, but this model predicts '{predicts}'; "
            "it cannot be exported."
        )
    predicts = PREDICTS[_theirs(predicts)]
    match process.schedule:
        case LinearBetas(steps, zero_snr, first, last):
            return SchedulerSpec(solver, steps, "linear", first, last, predicts, zero_snr=zero_snr)
        case ScaledLinear(steps, zero_snr, first, last):
            return SchedulerSpec(solver, steps, "scaled_linear", first, last, predicts, zero_snr=zero_snr)
        case Cosine(steps=steps, zero_snr=zero_snr, offset=0.008, largest=0.999):
            return SchedulerSpec(solver, steps, "squaredcos_cap_v2", predicts=predicts, zero_snr=zero_snr)
    raise UsageError(
        f"diffusers has no scheduler for {process.schedule!r}; "
        "export needs linear, scaled linear or cosine betas."
    )


def _theirs(predicts: str) -> str:
    return next(theirs for theirs, ours in PREDICTS.items() if ours == predicts)


def ends_clean(spec: SchedulerSpec, solver: str) -> bool:
    """Whether the last step goes to t = 0: PNDM alone stops earlier where its file does not say."""
    if solver in ("ddim", "plms"):
        return solver == "ddim" if spec.ends_clean is None else spec.ends_clean
    return spec.sigmas_end_clean or solver in ("ancestral", "heun")


def grid_of(spec: SchedulerSpec, solver: str, steps: int) -> Float[Tensor, " s"]:
    """The ``steps + 1`` times that diffusers' scheduler of this name and file visits; float64.

    Where "trailing" or "linspace" do not divide training evenly, diffusers' DDIM and PNDM step to other
    times than those they then tell the network (T // steps lower); here both are the same.
    """
    if steps >= spec.steps:
        raise UsageError(f"{steps} steps are too many for a model trained with {spec.steps}; take fewer.")
    index = _indices(spec, solver, steps)
    times = (index + 1) / spec.steps
    end = 0.0 if ends_clean(spec, solver) else 1 / spec.steps
    if solver in ("ddim", "plms") and index[-1] >= spec.steps // steps:
        end = float(index[-1] - spec.steps // steps + 1) / spec.steps
    if spec.karras:
        times = _karras(spec, solver, times)
    return torch.cat([times, times.new_tensor([end])])


def _indices(spec: SchedulerSpec, solver: str, steps: int) -> Float[Tensor, " s"]:
    """Indices of training, from noise to data; fractions for Euler's and Heun's "linspace"."""
    total, count = spec.steps, steps + int(solver == "dpmpp_2m")
    i = torch.arange(count, dtype=torch.float64)
    match spec.spacing or OWN_SPACING[solver]:
        case "leading":
            index = i * (total // count) + spec.offset
        case "trailing":
            index = (total - i[:steps].flip(0) * total / steps).round() - 1
        case _:
            index = i * ((total - 1) / max(count - 1, 1))
            index = index if solver in ("euler", "heun") else index.round()
    return index.flip(0)[:steps]


def _karras(spec: SchedulerSpec, solver: str, times: Tensor) -> Tensor:
    """Spread anew between the largest and the least noise; DPM-Solver takes those of training."""
    schedule = process_of(spec).schedule
    ends = times.new_tensor([1.0, 1 / spec.steps]) if solver == "dpmpp_2m" else times[[0, -1]]
    high, low = ((schedule.sigma(ends) / schedule.alpha(ends)) ** (1 / RHO)).tolist()
    ramp = torch.linspace(0, 1, len(times), dtype=torch.float64)
    return schedule.when((high + ramp * (low - high)) ** RHO)


def start_of(spec: SchedulerSpec, solver: str, times: Float[Tensor, " s"]) -> float:
    """What standard normal noise is multiplied by before the first step: 1, but for Euler's and Heun's grids
    that begin at the noisiest time, sigma there."""
    if solver not in ("euler", "heun") or (spec.spacing or OWN_SPACING[solver]) == "leading":
        return 1.0
    return float(process_of(spec).schedule.sigma(times[:1])[0])


class Walk(NamedTuple):
    """How a solver goes from noise to data."""

    times: Float[Tensor, " s"]
    start: float
    """What standard normal noise is multiplied by first."""


def walk(spec: SchedulerSpec, solver: str, steps: int, spacing: Spacing | None = None) -> Walk:
    """The walk that diffusers' scheduler takes; ``spacing`` in place of its own, if given."""
    if spacing == "karras":
        spec = replace(spec, karras=True)
    elif spacing is not None:
        spec = replace(spec, karras=False, spacing=spacing)
    times = grid_of(spec, solver, steps)
    return Walk(times, start_of(spec, solver, times))


def switch_of(spec: SchedulerSpec | None, at: float) -> float:
    """The time at which the share ``at`` of the way from noise to data is walked: where diffusers' pipelines
    part the steps between a base and a refiner, which is a whole index of training."""
    if spec is None:
        return 1 - at
    return (round(spec.steps - at * spec.steps) + 1 - 1e-6) / spec.steps
