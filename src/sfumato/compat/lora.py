"""LoRA files, in the four dialects in which their tensors are named, merged into networks.

Hu et al.: LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685: W + alpha / r * B A (section
4.1), where A goes down to the rank r and B up again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sfumato.compat.original import unet_table
from sfumato.compat.pth import SAFE, read_pth
from sfumato.errors import DataError
from sfumato.nn.unet import UNet

DIALECTS = {
    "peft": r"(?P<module>.+)\.lora_(?P<part>A|B)(?:\.\w+)?\.weight",
    "kohya": r"(?P<module>lora_(?:unet|te\d?)_\w+)\.lora_(?P<part>down|up)\.weight",
    "processor": r"(?P<module>.+)\.processor\.(?P<leaf>to_[qkv]|to_out)_lora\.(?P<part>down|up)\.weight",
    "old tower": r"(?P<module>.+\.self_attn)\.(?P<leaf>to_[qkv]|to_out)_lora\.(?P<part>down|up)\.weight",
    "diffusers": r"(?P<module>.+)\.lora(?:_linear_layer)?\.(?P<part>down|up)\.weight",
}
"""How a tensor's name says which module it belongs to; the first that fits is meant."""
ALPHA = r"(?P<module>.+)\.alpha"
LEAVES = {
    "processor": {"to_out": "to_out.0"},
    "old tower": {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"},
}
"""What the parts of attention are called inside the older dialects, and here."""
SHORT = {
    "unet": ("lora_unet_",),
    "text_encoder": ("lora_te_", "lora_te1_"),
    "text_encoder_2": ("lora_te2_",),
}
"""What kohya's trainer writes in place of a network's name; dots become underscores."""
UNDERSTOOD = "plain LoRA of linear layers and convolutions"


@dataclass(frozen=True)
class Update:
    """What is added to the weight of one module."""

    module: str
    """As the file calls it."""
    down: Tensor
    up: Tensor
    alpha: float | None = None
    """By which, over the rank, it is scaled; none means the rank."""

    def to(self, weight: Tensor) -> Tensor:
        """The sum of weight and update at strength 1, less the weight; in fp32."""
        rank = len(self.down)
        scale = 1.0 if self.alpha is None else self.alpha / rank
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        if product.numel() != weight.numel() or len(product) != len(weight):
            raise DataError(
                f"The LoRA changes '{self.module}' by a matrix of {tuple(product.shape)}, but there it has "
                f"{tuple(weight.shape)}; it was made for another model."
            )
        return scale * product.view(weight.shape)


def read_lora(path: Path) -> list[Update]:
    """The updates in a file; one that is no plain LoRA is a ``DataError``."""
    tensors, said = _held(path)
    halves: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    for name, tensor in tensors.items():
        if found := re.fullmatch(ALPHA, name):
            alphas[found["module"]] = float(tensor)
            continue
        module, part = _place(name, path)
        halves.setdefault(module, {})[{"A": "down", "B": "up"}.get(part, part)] = tensor
    for module, both in halves.items():
        if both.keys() != {"down", "up"}:
            raise DataError(f"'{path}' has but one half of '{module}'; fetch the whole file again.")
    if not halves:
        raise DataError(f"'{path}' holds no LoRA; only {UNDERSTOOD} is understood.")
    alphas = {module: alphas.get(module, said(module)) for module in halves}
    return [Update(module, **both, alpha=alphas[module]) for module, both in halves.items()]


def _place(name: str, path: Path) -> tuple[str, str]:
    """The module of a tensor, and which half it is."""
    for dialect, pattern in DIALECTS.items():
        if found := re.fullmatch(pattern, name):
            named = found.groupdict()
            if (leaf := named.get("leaf")) is None:
                return named["module"], named["part"]
            return f"{named['module']}.{LEAVES[dialect].get(leaf, leaf)}", named["part"]
    raise DataError(f"'{path}' has a tensor '{name}'; only {UNDERSTOOD} is understood.")


def _held(path: Path) -> tuple[Mapping[str, Tensor], Any]:
    """Tensors by name, and what the file says of the alpha of a module."""
    if path.suffix != SAFE:
        return read_pth(path), lambda _: None
    try:
        with safe_open(path, framework="pt") as file:
            names, metadata = list(file.keys()), file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise DataError(f"'{path}' is damaged or incomplete ({error}); fetch it again.") from error
    settings = json.loads(metadata.get("lora_adapter_metadata", "{}"))

    def alpha(module: str) -> float | None:
        network, _, rest = module.partition(".")
        pattern = settings.get(f"{network}.alpha_pattern") or {}
        found = pattern.get(rest, settings.get(f"{network}.lora_alpha"))
        return None if found is None else float(found)

    return tensors, alpha


def merge(networks: Mapping[str, nn.Module], updates: list[Update], weight: float) -> None:
    """Add updates to the weights of networks, ``weight`` times; a module that none has is a ``DataError``."""
    places = dict(_aliases(networks))
    if strange := [update.module for update in updates if update.module not in places]:
        raise DataError(
            f"The LoRA changes {len(strange)} modules that this model does not have ({strange[0]}); "
            "it was made for another model."
        )
    sums = [(places[update.module], update.to(places[update.module].weight)) for update in updates]
    for module, change in sums:
        old = module.weight
        new = (old.float() + weight * change.to(old.device)).to(old.dtype)
        module.weight = nn.Parameter(new, requires_grad=old.requires_grad)


def _aliases(networks: Mapping[str, nn.Module]) -> Iterator[tuple[str, Any]]:
    """Every name that a dialect has for a module, with the module."""
    for network, module in networks.items():
        if network not in SHORT:
            continue
        original = _original(module)
        for name, inner in module.named_modules():
            if getattr(inner, "weight", None) is None or inner.weight.ndim < 2:
                continue
            names = {name, name.removeprefix("text_model."), original.get(name, name)}
            for other in names:
                yield f"{network}.{other}", inner
                yield f"base_model.model.{network}.{other}", inner
                yield from ((short + other.replace(".", "_"), inner) for short in SHORT[network])
            if network == "unet":
                yield name, inner


def _original(module: nn.Module) -> dict[str, str]:
    """What the modules of a U-Net are called in single files, which SDXL's LoRAs follow."""
    if not isinstance(module, UNet):
        return {}
    entries = unet_table(module.config)
    return {e.ours[0].removesuffix(".weight"): e.theirs.removesuffix(".weight") for e in entries}
