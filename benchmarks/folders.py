"""Pipelines of diffusers with random weights, small or of Stable Diffusion 1.5's shape."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
TOKENS = 77


@dataclass(frozen=True)
class Shape:
    """How large the parts of a pipeline are."""

    cells: int
    """Height and width of a latent."""
    widths: tuple[int, ...]
    attend: tuple[bool, ...]
    heads: int
    context: int
    vae: tuple[int, ...]
    text: dict[str, Any]

    @property
    def unet(self) -> dict[str, Any]:
        """Settings of diffusers' ``UNet2DConditionModel``."""
        down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in self.attend)
        return {
            "sample_size": self.cells,
            "block_out_channels": self.widths,
            "down_block_types": down,
            "up_block_types": tuple(kind.replace("Down", "Up") for kind in reversed(down)),
            "attention_head_dim": self.heads,
            "cross_attention_dim": self.context,
        }


SMALL = Shape(
    cells=32,
    widths=(32, 64, 128),
    attend=(True, True, False),
    heads=4,
    context=64,
    vae=(32, 64, 64),
    text={"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4},
)
SD15 = Shape(
    cells=64,
    widths=(320, 640, 1280, 1280),
    attend=(True, True, True, False),
    heads=8,
    context=768,
    vae=(128, 256, 512, 512),
    text={"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
)
SHAPES = {"small": SMALL, "sd15": SD15}


def write(shape: Shape, folder: Path) -> None:
    """Save a pipeline of this shape; runs in a process of its own when memory is to be measured."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    words = tokenizer(folder.with_name(folder.name + "-words"))
    with torch.device("meta"):
        unet = UNet2DConditionModel(**shape.unet)
        vae = AutoencoderKL(
            block_out_channels=shape.vae,
            layers_per_block=2,
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * len(shape.vae),
            up_block_types=("UpDecoderBlock2D",) * len(shape.vae),
            sample_size=shape.cells * 2 ** (len(shape.vae) - 1),
        )
    text = CLIPTextModel(CLIPTextConfig(vocab_size=49408, **shape.text))
    betas = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler = DDIMScheduler(**betas, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    parts = {"unet": shaken(unet, 1), "vae": shaken(vae, 2), "text_encoder": shaken(text, 3)}
    with torch.no_grad():
        vae.decoder.conv_out.weight *= 0.4
    StableDiffusionPipeline(
        **parts,
        tokenizer=words,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def shaken(module: Any, seed: int) -> Any:
    """Random weights under which every input matters: each layer keeps the size of what passes through."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    if any(p.is_meta for p in module.parameters()):
        module.to_empty(device="cpu")
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.ndim == 1:
                p.normal_(
                    1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.2, generator=generator
                )
            else:
                p.normal_(0.0, p[0].numel() ** -0.5, generator=generator)
    return module.eval()


def tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer with letters for words."""
    from transformers import CLIPTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    letters = string.ascii_lowercase + string.digits + string.punctuation
    symbols = [*letters, *(letter + "</w>" for letter in letters), "re", "red</w>", BOS, EOS]
    files = {
        "vocab.json": json.dumps({symbol: i for i, symbol in enumerate(symbols)}),
        "merges.txt": "#version: 0.2\nr e\nre d</w>\n",
        "tokenizer_config.json": json.dumps(
            {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS}
            | {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
        ),
    }
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder)
