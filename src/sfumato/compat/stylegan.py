"""Public files of StyleGAN 2: NVIDIA's pickles, and the ``.pt`` files of rosinality's port.

Both hold the same numbers under other names. rosinality's are also written, exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfumato.compat.persistent import SUFFIX, read_records
from sfumato.compat.pth import read_pth
from sfumato.errors import DataError
from sfumato.nn.stylegan import StyleConfig

NVIDIA, ROSINALITY = "G_ema/synthesis.b4.const", "g_ema/input.input"
"""Names by which the two kinds are told apart: of the constant that synthesis starts from."""
MADE = r".*kernel|noises\.noise_\d+"
"""Buffers that are the same in all models, or are read on their own."""
NVIDIA_MAPPING = {r"mapping\.fc(\d+)\.": r"mapping.layers.\1.", r"mapping\.w_avg": "mapping.average"}
NVIDIA_LAYER = {"noise_strength": "strength"}
ROSINALITY_LAYER = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "noise.weight": "strength",
    "activate.bias": "bias",
}
ROSINALITY_COLOURS = ROSINALITY_LAYER | {"bias": "bias"}


@dataclass(frozen=True)
class Published:
    """A generator, and a critic if the file holds one, under our names."""

    network: StyleConfig
    tensors: Mapping[str, Tensor]
    critic: bool


def read(path: Path) -> Published:
    """Read a file of either kind; ``DataError`` if it is neither, or of another architecture."""
    if path.suffix == SUFFIX:
        records = read_records(path)
        if "G_ema" not in records:
            raise DataError(f"'{path}' has no 'G_ema' but {', '.join(records)}; give a whole snapshot.")
        asked = records["G_ema"].settings.get("c_dim", 0)
        if asked:
            raise DataError(f"'{path}' wants one of {asked} labels, which StyleGAN here is not told; "
                            "give a model without labels.")  # fmt: skip
        critic = records["D"].tensors() if "D" in records else {}
        return _published(path, _from_nvidia(path, records["G_ema"].tensors(), critic), bool(critic))
    held = read_pth(path)
    if ROSINALITY not in held:
        raise DataError(
            f"'{path}' is no StyleGAN 2: it has no '{ROSINALITY}'; give a file of rosinality's port."
        )
    return _published(path, _from_rosinality(path, held), any(name.startswith("d/") for name in held))


def _published(path: Path, tensors: dict[str, Tensor], critic: bool) -> Published:
    """The shapes of the networks, read off those of the tensors."""
    const = tensors["synthesis.const"]
    last = sum(name.endswith("affine.weight") and "colours" in name for name in tensors) - 1
    size, w = const.shape[1] << last, tensors["mapping.layers.0.weight"].shape
    if tuple(const.shape[1:]) != (4, 4) or last < 1:
        raise DataError(f"'{path}' starts from {tuple(const.shape)}; only maps of 4 x 4 are understood.")
    finest = tensors[f"synthesis.layers.{2 * last}.weight"].shape[0]
    config = StyleConfig(
        channels=tensors["synthesis.colours.0.bias"].shape[0],
        height=size,
        width=size,
        z=w[1],
        w=w[0],
        mapping=sum(re.fullmatch(r"mapping\.layers\.\d+\.weight", name) is not None for name in tensors),
        base=finest * size,
        most=const.shape[0],
        fixed_noise="synthesis.constant" in tensors,
    )
    return Published(config, tensors, critic)


# --- NVIDIA ------------------------------------------------------------------------------------------


def _from_nvidia(
    path: Path, generator: Mapping[str, Tensor], critic: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    ours: dict[str, Tensor] = {}
    noise: dict[int, Tensor] = {}
    for name, tensor in generator.items():
        if name.endswith("resample_filter"):
            continue
        found = re.fullmatch(r"synthesis\.b(\d+)\.(const|(?:conv([01])|torgb)\.(.+))", name)
        if found is None:
            ours[_renamed(path, name, NVIDIA_MAPPING)] = tensor
            continue
        level = (int(found[1]) // 4).bit_length() - 1
        rest = NVIDIA_LAYER.get(found[4], found[4])
        if found[2] == "const":
            ours["synthesis.const"] = tensor
        elif rest == "noise_const":
            noise[_layer(level, found[3])] = tensor
        else:
            place = f"colours.{level}" if found[3] is None else f"layers.{_layer(level, found[3])}"
            ours[f"synthesis.{place}.{rest}"] = tensor
    if noise:
        ours["synthesis.constant"] = torch.cat([noise[i].flatten() for i in sorted(noise)])
    return ours | _critic_of_nvidia(path, critic)


def _layer(level: int, conv: str) -> int:
    """Which layer of ours: the first resolution has conv1 alone."""
    return 2 * level - 1 + int(conv)


def _critic_of_nvidia(path: Path, critic: Mapping[str, Tensor]) -> dict[str, Tensor]:
    last = {"conv": "conv", "fc": "dense", "out": "out"}
    ours: dict[str, Tensor] = {}
    for name, tensor in critic.items():
        if name.endswith("resample_filter"):
            continue
        found = re.fullmatch(r"b(\d+)\.(fromrgb|conv0|conv1|skip|conv|fc|out)\.(weight|bias)", name)
        if found is None:
            raise _unknown(path, name)
        if found[2] == "fromrgb":
            ours[f"critic.entries.0.{found[3]}"] = tensor
        elif found[2] in last:
            ours[f"critic.{last[found[2]]}.{found[3]}"] = tensor
        else:
            level = (int(found[1]) // 4).bit_length() - 2
            ours[f"critic.blocks.{level}.{found[2]}.{found[3]}"] = tensor
    return ours


def _renamed(path: Path, name: str, rules: Mapping[str, str]) -> str:
    for theirs, ours in rules.items():
        if re.match(theirs, name):
            return re.sub(theirs, ours, name)
    raise _unknown(path, name)


def _unknown(path: Path, name: str) -> DataError:
    return DataError(f"'{path}' holds '{name}', which StyleGAN 2 with skip connections and a residual critic "
                     "does not have; give a model of that architecture.")  # fmt: skip


# --- rosinality --------------------------------------------------------------------------------------


def _from_rosinality(path: Path, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    generator = {k.removeprefix("g_ema/"): v for k, v in held.items() if k.startswith("g_ema/")}
    critic = {k.removeprefix("d/"): v for k, v in held.items() if k.startswith("d/")}
    table = rosinality_names(_levels(generator))
    ours = {table[k]: v.reshape(_shape(table[k], v)) for k, v in generator.items() if k in table}
    noises = [generator[k] for k in sorted(generator, key=_number) if re.fullmatch(r"noises\.noise_\d+", k)]
    if noises:
        ours["synthesis.constant"] = torch.cat([noise.flatten() for noise in noises])
    for name in (*generator, *critic):
        if name not in table and f"d/{name}" not in table and not re.fullmatch(MADE, name):
            raise _unknown(path, name)
    ours |= {table[f"d/{k}"]: v for k, v in critic.items() if f"d/{k}" in table}
    if "latent_avg" in held:
        ours["mapping.average"] = held["latent_avg"].flatten()
    return ours


def to_rosinality(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor] | Tensor]:
    """What rosinality's port reads with ``torch.load``: ``g_ema``, ``d`` and ``latent_avg``."""
    levels = sum(re.fullmatch(r"synthesis\.colours\.\d+\.bias", name) is not None for name in tensors)
    generator: dict[str, Tensor] = {}
    critic: dict[str, Tensor] = {}
    for theirs, ours in rosinality_names(levels).items():
        if theirs.startswith("d/"):
            critic[theirs.removeprefix("d/")] = tensors[ours]
        else:
            generator[theirs] = _their_shape(theirs, tensors[ours])
    return {"g_ema": generator, "d": critic, "latent_avg": tensors["mapping.average"]}


def rosinality_names(levels: int) -> dict[str, str]:
    """Their names and ours for a model of that many resolutions and a mapping of 8 layers."""
    names = {"input.input": "synthesis.const"}
    for i in range(8):
        names |= {f"style.{i + 1}.{end}": f"mapping.layers.{i}.{end}" for end in ("weight", "bias")}
    for i in range(2 * levels - 1):
        place = "conv1" if i == 0 else f"convs.{i - 1}"
        names |= {f"{place}.{k}": f"synthesis.layers.{i}.{v}" for k, v in ROSINALITY_LAYER.items()}
    for i in range(levels):
        place = "to_rgb1" if i == 0 else f"to_rgbs.{i - 1}"
        names |= {
            f"{place}.{k}": f"synthesis.colours.{i}.{v}"
            for k, v in ROSINALITY_COLOURS.items()
            if v != "strength" and k != "activate.bias"
        }
    names |= {"d/convs.0.0.weight": "critic.entries.0.weight", "d/convs.0.1.bias": "critic.entries.0.bias"}
    for i in range(1, levels):
        ours = f"critic.blocks.{levels - 1 - i}"
        names |= {
            f"d/convs.{i}.conv1.0.weight": f"{ours}.conv0.weight",
            f"d/convs.{i}.conv1.1.bias": f"{ours}.conv0.bias",
            f"d/convs.{i}.conv2.1.weight": f"{ours}.conv1.weight",
            f"d/convs.{i}.conv2.2.bias": f"{ours}.conv1.bias",
            f"d/convs.{i}.skip.1.weight": f"{ours}.skip.weight",
        }
    names |= {"d/final_conv.0.weight": "critic.conv.weight", "d/final_conv.1.bias": "critic.conv.bias"}
    for i, ours in enumerate(("dense", "out")):
        names |= {f"d/final_linear.{i}.{end}": f"critic.{ours}.{end}" for end in ("weight", "bias")}
    return names


def _levels(generator: Mapping[str, Tensor]) -> int:
    return 1 + sum(re.fullmatch(r"to_rgbs\.\d+\.bias", name) is not None for name in generator)


def _number(name: str) -> int:
    digits = re.findall(r"\d+", name)
    return int(digits[-1]) if digits else -1


def _shape(ours: str, tensor: Tensor) -> tuple[int, ...]:
    """Without the leading 1 for the example, without the places of a bias, a strength as one number."""
    if ours.endswith("strength"):
        return ()
    if re.fullmatch(r"synthesis\.(const|(layers|colours)\.\d+\.weight)", ours):
        return tuple(tensor.shape[1:])
    return (tensor.numel(),) if ours.endswith("bias") else tuple(tensor.shape)


def _their_shape(theirs: str, tensor: Tensor) -> Tensor:
    if theirs.endswith("noise.weight"):
        return tensor.reshape(1)
    if theirs == "input.input" or theirs.endswith("conv.weight"):
        return tensor.unsqueeze(0)
    return tensor.view(1, -1, 1, 1) if re.fullmatch(r"to_rgb(1|s\.\d+)\.bias", theirs) else tensor
