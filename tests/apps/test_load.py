"""Runs load whole or with one precise reason why not."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import sfumato
from sfumato.apps.load import load
from sfumato.errors import DataError, SfumatoError, UsageError


def test_a_run_loads_ready_to_serve(run):
    system = sfumato.load(run, precision="bf16")
    assert system.dtype == torch.bfloat16
    assert not system.training
    assert sfumato.load(run, precision="fp32").dtype == torch.float32


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


@pytest.mark.parametrize("fault", ["missing", "unknown", "of another shape"])
def test_weights_that_do_not_fit_are_named(copy, fault):
    file = copy / "model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[0]
    if fault == "missing":
        del tensors[name]
    elif fault == "unknown":
        name, tensors["stray"] = "stray", torch.zeros(1)
    else:
        tensors[name] = torch.zeros(7)
    save_file(tensors, file)
    with pytest.raises(DataError, match=f"do not fit its config.json: 1 tensors {fault} .{name}"):
        load(copy)


def test_a_flipped_bit_is_found(copy):
    file = copy / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match="its tensors do not match their checksum"):
        load(copy)


def test_a_run_without_a_model_is_refused(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors cannot be used: it is missing"):
        load(copy)


def test_a_config_that_makes_no_sense_is_refused(copy):
    file = copy / "config.json"
    told = json.loads(file.read_text())
    for change, match in (
        ({"system": "ddmp"}, "Unknown system 'ddmp'; did you mean 'ddpm'"),
        (
            {"config": told["config"] | {"hight": 3}},
            "DDPMConfig has no setting 'hight'; did you mean 'height'",
        ),
        ({"format": 99}, "has format 99, this sfumato reads 1"),
    ):
        file.write_text(json.dumps(told | change))
        with pytest.raises(SfumatoError, match=match):
            load(copy)
    file.write_text("{")
    with pytest.raises(DataError, match=r"config\.json"):
        load(copy)


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(UsageError, match="There is no model or folder 'nosuch'"):
        load("nosuch")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file; give the folder"):
        load(tmp_path / "file")
    with pytest.raises(DataError, match=r"it has no config\.json"):
        load(tmp_path)


def test_a_pipeline_nobody_reads_is_named(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(DataError, match="holds a FluxPipeline, which sfumato cannot read"):
        load(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        load(tmp_path)
