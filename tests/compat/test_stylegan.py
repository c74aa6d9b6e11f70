"""StyleGAN 2 from files with the published names; what else stands in a pickle is never run."""

from __future__ import annotations

import os
import pickle
import sys
import types
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.apps.load import load
from sfumato.compat.persistent import read_records
from sfumato.compat.pth import read_pth
from sfumato.compat.stylegan import read, rosinality_names, to_rosinality
from sfumato.core.request import Generate
from sfumato.errors import DataError
from sfumato.nn.stylegan import StyleConfig
from sfumato.systems.gans.stylegan import StyleGAN, StyleGANConfig

TINY = StyleConfig(height=16, width=16, z=6, w=6, mapping=8, base=80, most=10, lr_mul=0.01, fixed_noise=True)


@pytest.fixture(scope="module")
def system() -> StyleGAN:
    torch.manual_seed(0)
    made = StyleGAN(StyleGANConfig(TINY)).eval()
    for name, tensor in made.state_dict().items():
        if name.endswith(("bias", "strength", "average")):
            torch.nn.init.normal_(tensor)
    return made


# --- rosinality --------------------------------------------------------------------------------------

THEIRS = {
    "style.1.weight": (6, 6),
    "style.8.bias": (6,),
    "input.input": (1, 10, 4, 4),
    "conv1.conv.weight": (1, 10, 10, 3, 3),
    "conv1.conv.modulation.weight": (10, 6),
    "conv1.conv.modulation.bias": (10,),
    "conv1.noise.weight": (1,),
    "conv1.activate.bias": (10,),
    "to_rgb1.bias": (1, 3, 1, 1),
    "to_rgb1.conv.weight": (1, 3, 10, 1, 1),
    "to_rgb1.conv.modulation.weight": (10, 6),
    "convs.3.conv.weight": (1, 5, 5, 3, 3),
    "convs.2.conv.weight": (1, 5, 10, 3, 3),
    "to_rgbs.1.conv.weight": (1, 3, 5, 1, 1),
    "to_rgbs.1.bias": (1, 3, 1, 1),
}
"""As rosinality's model.py gives them for a generator of these widths."""
CRITIC = {
    "convs.0.0.weight": (5, 3, 1, 1),
    "convs.0.1.bias": (5,),
    "convs.1.conv1.0.weight": (5, 5, 3, 3),
    "convs.1.conv2.1.weight": (10, 5, 3, 3),
    "convs.1.conv2.2.bias": (10,),
    "convs.1.skip.1.weight": (10, 5, 1, 1),
    "convs.2.conv1.0.weight": (10, 10, 3, 3),
    "final_conv.0.weight": (10, 11, 3, 3),
    "final_linear.0.weight": (10, 160),
    "final_linear.1.bias": (1,),
}


@pytest.fixture
def rosinality(system, tmp_path) -> Path:
    held = to_rosinality(system.state_dict())
    generator = held["g_ema"]
    assert isinstance(generator, dict)
    sizes = [4, 8, 8, 16, 16]
    constant = system.state_dict()["synthesis.constant"].split([size**2 for size in sizes])
    for i, (noise, size) in enumerate(zip(constant, sizes, strict=True)):
        generator[f"noises.noise_{i}"] = noise.view(1, 1, size, size)
    generator["convs.0.conv.blur.kernel"] = torch.ones(4, 4)
    path = tmp_path / "stylegan2.pt"
    torch.save(held, path)
    return path


def test_written_under_their_names_and_shapes(system):
    held = to_rosinality(system.state_dict())
    for part, wanted in (("g_ema", THEIRS), ("d", CRITIC)):
        given = held[part]
        assert isinstance(given, dict)
        assert {name: tuple(given[name].shape) for name in wanted} == wanted
    assert len(set(rosinality_names(3).values())) == len(rosinality_names(3))


def test_read_back_it_is_the_same(system, rosinality):
    found = read(rosinality)
    assert found.network == TINY
    assert found.critic
    given = system.state_dict()
    for name, tensor in found.tensors.items():
        assert torch.equal(tensor, given[name]), name
    missing = given.keys() - found.tensors.keys()
    assert missing == {"seen", "augment.dose", "augment.signs", "path.mean"}


def test_it_opens_by_its_path_and_draws_the_same_pictures(system, rosinality):
    loaded = load(rosinality, precision="fp32", device="cpu")
    [one], [other] = (list(model.run(Generate(count=2))) for model in (system, loaded))
    assert torch.allclose(one.pixels, other.pixels, atol=1e-5)


def test_other_files_are_told_apart(tmp_path):
    path = tmp_path / "other.pt"
    torch.save({"g_ema": {"input.weight": torch.ones(2)}}, path)
    with pytest.raises(DataError, match=r"it has no 'g_ema/input.input'; give a file of rosinality's port"):
        read(path)


# --- NVIDIA ------------------------------------------------------------------------------------------


class Persistent:
    """Pickles itself as ``torch_utils.persistence`` lets a module do."""

    def __init__(self, name: str, tensors: dict[str, Tensor], **settings: Any):
        self.name, self.settings = name, settings
        self.parameters: OrderedDict[str, Any] = OrderedDict()
        self.modules: dict[str, dict[str, Tensor]] = {}
        for path, tensor in tensors.items():
            child, dot, rest = path.partition(".")
            if dot:
                self.modules.setdefault(child, {})[rest] = tensor
            else:
                self.parameters[child] = torch.nn.Parameter(tensor)

    def __reduce__(self) -> tuple[Any, ...]:
        modules = OrderedDict((k, Persistent("Part", v)) for k, v in self.modules.items())
        state = {
            "training": False,
            "_parameters": self.parameters,
            "_buffers": OrderedDict(resample_filter=torch.ones(4, 4)),
            "_modules": modules,
            "_init_args": (),
            "_init_kwargs": sys.modules["dnnlib.util"].EasyDict(self.settings),
        }
        source = "raise SystemExit('this source code must never run')"
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": self.name, "state": state}
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


class Danger:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def nvidia(monkeypatch, system, tmp_path):
    """Writes a snapshot as stylegan2-ada-pytorch does, whose modules exist only while it is written."""

    def write(extra: Any = None, generator: dict[str, Tensor] | None = None, **settings: Any) -> Path:
        def _reconstruct_persistent_obj(meta: Any) -> None:
            raise AssertionError("the file's own function ran")

        _reconstruct_persistent_obj.__module__ = "torch_utils.persistence"
        _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
        settings_of = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
        names = ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
        with monkeypatch.context() as patch:
            for name in names:
                patch.setitem(sys.modules, name, types.ModuleType(name))
            sys.modules["torch_utils.persistence"].__dict__["_reconstruct_persistent_obj"] = (
                _reconstruct_persistent_obj
            )
            sys.modules["dnnlib.util"].__dict__["EasyDict"] = settings_of
            held = {
                "G_ema": Persistent("Generator", generator or _generator(system), **settings),
                "D": Persistent("Discriminator", _critic(system)),
                "training_set_kwargs": settings_of(class_name="training.dataset.ImageFolderDataset"),
                "augment_pipe": extra,
            }
            path = tmp_path / "network-snapshot.pkl"
            path.write_bytes(pickle.dumps(held))
        return path

    return write


def _generator(system: StyleGAN) -> dict[str, Tensor]:
    """Our tensors under the names of training/networks.py."""
    ours = {name: tensor.detach().clone() for name, tensor in system.state_dict().items()}
    theirs = {"mapping.w_avg": ours["mapping.average"], "synthesis.b4.const": ours["synthesis.const"]}
    for i in range(8):
        theirs |= {f"mapping.fc{i}.{end}": ours[f"mapping.layers.{i}.{end}"] for end in ("weight", "bias")}
    places = ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"]
    noise = ours["synthesis.constant"].split([16, 64, 64, 256, 256])
    for i, place in enumerate(places):
        layer = f"synthesis.layers.{i}"
        for end in ("weight", "bias", "affine.weight", "affine.bias"):
            theirs[f"synthesis.{place}.{end}"] = ours[f"{layer}.{end}"]
        theirs[f"synthesis.{place}.noise_strength"] = ours[f"{layer}.strength"]
        side = int(len(noise[i]) ** 0.5)
        theirs[f"synthesis.{place}.noise_const"] = noise[i].view(side, side)
    for i, size in enumerate((4, 8, 16)):
        for end in ("weight", "bias", "affine.weight", "affine.bias"):
            theirs[f"synthesis.b{size}.torgb.{end}"] = ours[f"synthesis.colours.{i}.{end}"]
    return theirs


def _critic(system: StyleGAN) -> dict[str, Tensor]:
    ours = {name: tensor.detach().clone() for name, tensor in system.critic.state_dict().items()}
    theirs = {}
    for end in ("weight", "bias"):
        theirs |= {
            f"b16.fromrgb.{end}": ours[f"entries.0.{end}"],
            f"b4.conv.{end}": ours[f"conv.{end}"],
            f"b4.fc.{end}": ours[f"dense.{end}"],
            f"b4.out.{end}": ours[f"out.{end}"],
        }
        for i, size in enumerate((8, 16)):
            for conv in ("conv0", "conv1"):
                theirs[f"b{size}.{conv}.{end}"] = ours[f"blocks.{i}.{conv}.{end}"]
    return theirs | {
        f"b{size}.skip.weight": ours[f"blocks.{i}.skip.weight"] for i, size in enumerate((8, 16))
    }


def test_a_pickle_of_nvidia_is_read(system, nvidia):
    found = read(nvidia())
    assert found.network == TINY
    assert found.critic
    given = system.state_dict()
    for name, tensor in found.tensors.items():
        assert torch.equal(tensor, given[name]), name
    assert given.keys() - found.tensors.keys() == {"seen", "augment.dose", "augment.signs", "path.mean"}


def test_it_draws_the_same_pictures(system, nvidia):
    path = nvidia()
    assert read_pth(path).keys() & StyleGAN.published
    loaded = StyleGAN.from_file(path).eval()
    assert loaded.config == replace(system.config, network=TINY)
    [one], [other] = (list(model.run(Generate(count=2))) for model in (system, loaded))
    assert torch.equal(one.pixels, other.pixels)


def test_nothing_in_a_pickle_is_run(nvidia, tmp_path):
    mark = tmp_path / "ran"
    path = nvidia(Danger(mark))
    before = set(sys.modules)
    assert read_records(path).keys() == {"G_ema", "D"}
    assert not mark.exists()
    assert not {"torch_utils", "dnnlib"} & (set(sys.modules) - before)


def test_models_that_want_labels_are_refused(nvidia):
    with pytest.raises(DataError, match="wants one of 10 labels, which StyleGAN here is not told"):
        read(nvidia(c_dim=10))


def test_other_architectures_are_refused(nvidia, system):
    odd = _generator(system) | {"mapping.embed.weight": torch.ones(2, 2)}
    with pytest.raises(DataError, match=r"holds 'mapping.embed.weight', which StyleGAN 2 with skip"):
        read(nvidia(generator=odd))


def test_other_pickles_are_refused(tmp_path):
    path = tmp_path / "list.pkl"
    path.write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(
        DataError, match="holds no networks; give a pickle as stylegan2-ada-pytorch writes it"
    ):
        read(path)
    path.write_bytes(b"no pickle at all")
    with pytest.raises(DataError, match="is no pickle of StyleGAN 2-ADA"):
        read(path)
