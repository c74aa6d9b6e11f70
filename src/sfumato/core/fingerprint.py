"""The conditions under which a resumed run repeats the uninterrupted one bit for bit."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from sfumato.core.system import TrainConfig
from sfumato.data.dataset import Dataset
from sfumato.device import Precision


def fingerprint(
    data: Dataset, config: TrainConfig, *, processes: int, precision: Precision, device: torch.device
) -> dict[str, str | int]:
    """Versions, machine, data and batch, as env.json keeps them."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    return {
        "sfumato": version("sfumato"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.system()} {platform.machine()}",
        "device": f"{device.type} {name}",
        "threads": torch.get_num_threads(),
        "processes": processes,
        "precision": precision,
        "batch": config.batch,
        "accumulate": config.accumulate,
        "steps": config.steps,
        "data": data.facts.fingerprint or data.facts.name,
        "examples": len(data),
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One sentence for each condition that differs.

    >>> changes({"threads": 2}, {"threads": 4})
    ['continuing, not bit-exact: threads 2 -> 4']
    """
    both = [key for key in now if key in before and before[key] != now[key]]
    return [f"continuing, not bit-exact: {key} {before[key]} -> {now[key]}" for key in both]
