"""What this machine is good at: devices, precision, threads and the C allocator."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import time
from contextlib import AbstractContextManager
from typing import Literal

import torch

from sfumato.errors import UsageError

Precision = Literal["auto", "fp32", "bf16"]

WORTHWHILE = 1.15
"""How many times faster a convolution must be in bf16 before bf16 is chosen."""
MMAP_MAX, TRIM_THRESHOLD, TOP_PAD = -4, -1, -2
"""Names of glibc's ``mallopt`` parameters (malloc.h)."""
KEEP = 256 << 20
"""Bytes that the C allocator keeps beyond what is in use."""


@functools.cache
def setup() -> None:
    """Prepare this process for tensor work; call it once at the start, a second call does nothing.

    glibc maps large activations anew at every call; keeping them in the heap is worth 1.1x on large
    models (``SFUMATO_MALLOC=0`` leaves the allocator alone). One thread a physical core, unless
    ``OMP_NUM_THREADS`` says otherwise.
    """
    if os.environ.get("SFUMATO_MALLOC", "1") != "0" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(TOP_PAD, KEEP)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(physical_cores())


def physical_cores() -> int:
    """Cores this process may use, hyper-threads counted once."""
    allowed = len(os.sched_getaffinity(0)) if platform.system() == "Linux" else os.cpu_count() or 1
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            blocks = file.read().split("\n\n")
    except OSError:
        return allowed
    cores = {
        tuple(line for line in b.splitlines() if line.startswith(("physical id", "core id"))) for b in blocks
    }
    known = {core for core in cores if core}
    return min(allowed, len(known)) if known else allowed


@functools.cache
def fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 pays on ``device``: on a CPU measured by a convolution of a few milliseconds.

    A CPU flag is not enough: without native instructions bf16 is emulated, and slower than fp32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    weight, x = torch.ones(64, 64, 3, 3), torch.ones(4, 64, 32, 32)
    half_weight, half_x = weight.bfloat16(), x.bfloat16()
    with torch.no_grad():
        # Alternating rounds: a busy moment of the machine then strikes both alike.
        rounds = [(_seconds(x, weight), _seconds(half_x, half_weight)) for _ in range(6)]
    return min(full for full, _ in rounds) > WORTHWHILE * min(half for _, half in rounds)


def _seconds(x: torch.Tensor, weight: torch.Tensor) -> float:
    start = time.perf_counter()
    torch.nn.functional.conv2d(x, weight, padding=1)
    return time.perf_counter() - start


def pick(name: str = "auto") -> torch.device:
    """The device called ``name``; "auto" takes a CUDA device if there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"'{name}' is no device; choose auto, cpu or cuda (cuda:0, cuda:1 ...).") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"'{name}' was asked for, but this machine has no usable CUDA device; use cpu or auto."
        )
    return device


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype networks compute in: "auto" is bfloat16 where that is fast, float32 elsewhere."""
    if precision == "auto":
        return torch.bfloat16 if fast_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Mixed precision for training: float32 weights, matrix products in ``dtype_of(precision)``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype_of(precision, device) == torch.bfloat16)
