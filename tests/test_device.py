"""Devices, precision and the one-time preparation of a process."""

from __future__ import annotations

import pytest
import torch

from sfumato import device
from sfumato.errors import UsageError

CPU = torch.device("cpu")


def test_setup_can_be_called_again_and_leaves_a_given_number_of_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    device.setup()
    device.setup()
    assert torch.get_num_threads() == threads
    assert device.setup.cache_info().misses == 1
    assert device.physical_cores() >= 1


def test_precision_becomes_a_dtype():
    assert device.dtype_of("fp32", CPU) == torch.float32
    assert device.dtype_of("bf16", CPU) == torch.bfloat16
    chosen = device.dtype_of("auto", CPU)
    assert (chosen == torch.bfloat16) == device.fast_bf16(CPU)
    assert device.dtype_of("auto", CPU) == chosen, "measured once a process"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_products_in_the_dtype(precision, dtype):
    layer = torch.nn.Linear(3, 2)
    with device.autocast(precision, CPU):
        assert layer(torch.ones(5, 3)).dtype == dtype
    assert layer.weight.dtype == torch.float32


def test_devices_are_picked_by_name():
    assert device.pick("cpu") == CPU
    assert device.pick("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match="'gpu' is no device; choose auto, cpu or cuda"):
        device.pick("gpu")


def test_a_missing_gpu_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="'cuda' was asked for, but this machine has no usable CUDA device"):
        device.pick("cuda")
