"""The verb ``doctor``: is this machine fit, and if not, what mends it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sfumato.apps import facts
from sfumato.apps.talk import Common, counted, table

EXTRAS = {
    "data": ("sklearn", "skimage"),
    "track": ("tensorboard",),
    "dev": ("pytest", "diffusers", "transformers"),
}
ROOM = 2e9
"""Bytes of free disk that a laptop training with its checkpoints stays under."""


@dataclass(frozen=True)
class Options(Common):
    """Check this machine: torch, threads, precision, disk, extras. Each fault comes with a remedy.

    Example: sfumato doctor --probe
    """

    probe: bool = False
    """Also load torch and time what this machine computes fast."""
    folder: Path = Path()
    """Where runs are to be written."""


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    what: str
    state: Literal["ok", "note", "fault"]
    found: str
    remedy: str = ""


def main(options: Options) -> int:
    """Look at everything; exit code 1 if something is at fault."""
    checks = [check for look in CHECKS for check in look(options)]
    if options.probe:
        checks += probe()
    options.talk.result([asdict(check) for check in checks])
    options.talk.show(table(["", "", ""], [(c.state, c.what, c.found) for c in checks]))
    for check in checks:
        if check.remedy:
            options.talk.show(f"\n{check.state}: {check.what}: {check.remedy}")
    return int(any(check.state == "fault" for check in checks))


def python(_: Options) -> Iterator[Check]:
    """Version of Python."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    good = sys.version_info >= (3, 11)
    yield Check("python", "ok" if good else "fault", found, "" if good else "install Python 3.11 or newer")


def packages(_: Options) -> Iterator[Check]:
    """What must be installed, what may be, and what must not be."""
    for name in ("torch", "numpy", "pillow", "safetensors"):
        version = _version(name)
        remedy = "" if version else f'pip install -c constraints.txt "{name}"'
        yield Check(name, "ok" if version else "fault", version or "not installed", remedy)
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if not facts.installed(module)]
        remedy = f'if you need it: pip install "sfumato[{extra}]"' if missing else ""
        found = f"without {', '.join(missing)}" if missing else "installed"
        yield Check(f"extra {extra}", "note" if missing else "ok", found, remedy)
    if facts.installed("torchvision") and _tag(_version("torch")) != _tag(_version("torchvision")):
        remedy = "a torchvision of another build breaks transformers and diffusers: pip uninstall torchvision"
        yield Check("torchvision", "fault", _version("torchvision"), remedy)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _tag(version: str) -> str:
    return version.partition("+")[2]


def processor(_: Options) -> Iterator[Check]:
    """Cores, threads, and whether the CPU says that it has bfloat16."""
    cores = len(os.sched_getaffinity(0)) if platform.system() == "Linux" else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS")
    known = f", OMP_NUM_THREADS={threads}" if threads else ""
    few = bool(threads) and threads != str(cores)
    remedy = f"more threads are allowed: unset OMP_NUM_THREADS to use all {cores} cores" if few else ""
    yield Check("cores", "note" if few else "ok", f"{cores}{known}", remedy)
    flags = _flags()
    native = sorted(flags & {"avx512_bf16", "amx_bf16"})
    yield Check("bfloat16", "ok", ", ".join(native) or "not by the CPU's flags; --probe measures it")


def _flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    return set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())


def disk(options: Options) -> Iterator[Check]:
    """Room for runs, and the right to write them."""
    free = shutil.disk_usage(options.folder).free
    remedy = (
        "" if free > ROOM else f"free some space, or train with --out on another disk ({ROOM / 1e9:.0f} GB)"
    )
    yield Check("free disk", "note" if remedy else "ok", f"{free / 1e9:.1f} GB", remedy)
    try:
        with tempfile.TemporaryFile(dir=options.folder):
            yield Check("writable", "ok", str(options.folder.resolve()))
    except OSError as error:
        remedy = "work in a folder of your own, or give --out"
        yield Check("writable", "fault", f"{options.folder.resolve()}: {error.strerror}", remedy)


def models(_: Options) -> Iterator[Check]:
    """What can be generated with at once."""
    names = facts.models()
    remedy = "" if names else "train one: sfumato train ldm shapes --out runs/shapes"
    yield Check("models", "ok" if names else "note", ", ".join(names) or "none came along", remedy)


def network(_: Options) -> Iterator[Check]:
    """Sfumato never uses the network; other libraries are told so by these names."""
    told = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)]
    yield Check("network", "ok", f"not used{'; set: ' + ', '.join(told) if told else ''}")


def probe() -> list[Check]:
    """What torch finds and what is fast, measured in a blink."""
    import torch

    from sfumato import device

    device.setup()
    place = device.pick("auto")
    fast = device.fast_bf16(place)
    return [
        Check("device", "ok", f"{place}, {counted(torch.get_num_threads(), 'thread')}"),
        Check("precision", "ok", f"auto means {'bf16' if fast else 'fp32'} here"),
    ]


CHECKS: tuple[Callable[[Options], Iterator[Check]], ...] = (
    python,
    packages,
    processor,
    disk,
    models,
    network,
)
