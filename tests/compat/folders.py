"""Folders as diffusers and transformers save them, small and with random weights, for the tests to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionUpscalePipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from sfumato.data.clip_bpe import _SYMBOLS, END

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
LENGTH = 13
SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def shaken(module: nn.Module, seed: int, gain: float = 1.0) -> nn.Module:
    """Random weights under which every input matters: each layer keeps the size of what passes through."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.ndim == 1:
                near = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                p.copy_(near + 0.2 * torch.randn(p.shape, generator=generator))
            else:
                p.copy_(gain * torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5)
    return module.eval()


def tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    folder.mkdir(parents=True)
    merges = ["r e", "re d</w>", "c i", "b l", "s t"]
    symbols = [
        *_SYMBOLS.values(),
        *(s + END for s in _SYMBOLS.values()),
        *(m.replace(" ", "") for m in merges),
    ]
    vocabulary = {symbol: i for i, symbol in enumerate([*symbols, BOS, EOS])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    marks = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": pad}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, **marks})
    )
    return CLIPTokenizer.from_pretrained(folder)


def text_encoder(
    words: CLIPTokenizer, width: int, activation: str, projection: int = 0, heads: int = 4
) -> nn.Module:
    config = CLIPTextConfig(
        vocab_size=len(words),
        max_position_embeddings=LENGTH,
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        hidden_act=activation,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        projection_dim=projection or 512,
    )
    return shaken((CLIPTextModelWithProjection if projection else CLIPTextModel)(config), 1 + projection, 1.5)


def denoiser(context: int, seed: int = 2, **shape: Any) -> nn.Module:
    """A small U-Net of Stable Diffusion's kind."""
    usual = {
        "sample_size": (10, 14),
        "block_out_channels": (12, 24, 36),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "norm_num_groups": 4,
        "cross_attention_dim": context,
        "attention_head_dim": (2, 3, 4),
        "use_linear_projection": True,
    }
    return shaken(UNet2DConditionModel(**usual | shape), seed)


def autoencoder(levels: int = 3, scale: float = 0.7) -> nn.Module:
    stage = AutoencoderKL(
        block_out_channels=(8, 12, 16)[-levels:],
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        scaling_factor=scale,
    )
    shaken(stage, 3)
    with torch.no_grad():
        stage.decoder.conv_out.weight *= 0.3
    return stage


def stable_diffusion(folder: Path, version: int, size: Any = (10, 14), **scheduler: Any) -> Path:
    """A StableDiffusionPipeline like 1.x (eps, convolutions, QuickGELU) or 2.x (v, linear, GELU).

    Only diffusers' plainest pipeline opens a model of oblong latents.
    """
    one = version == 1
    words = tokenizer(folder.with_name(folder.name + "-words"), EOS if one else "!")
    width = 24 if one else 36
    plms = {"skip_prk_steps": True, "set_alpha_to_one": False}
    walk = (
        PNDMScheduler(**SCHEDULE, **plms)
        if one
        else DDIMScheduler(
            **SCHEDULE, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction", **scheduler
        )
    )
    heads = {"attention_head_dim": 4, "use_linear_projection": False} if one else {"upcast_attention": True}
    StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder(words, width, "quick_gelu" if one else "gelu"),
        tokenizer=words,
        unet=denoiser(width, sample_size=size, **heads),
        scheduler=walk,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    if one:  # the file published with Stable Diffusion 1.x says nothing of spacing
        file = folder / "scheduler" / "scheduler_config.json"
        said = json.loads(file.read_text())
        file.write_text(json.dumps({k: v for k, v in said.items() if k != "timestep_spacing"}))
    return folder


def euler() -> EulerDiscreteScheduler:
    """As published with SDXL."""
    return EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="leading", interpolation_type="linear")


def sdxl(folder: Path, **settings: Any) -> Path:
    """A StableDiffusionXLPipeline: two text towers, no attention on the first level, depths 1, 2 and 3."""
    one = tokenizer(folder.with_name(folder.name + "-words"), EOS)
    two = tokenizer(folder.with_name(folder.name + "-words-2"), "!")
    StableDiffusionXLPipeline(
        vae=autoencoder(scale=0.13025 * 4),
        text_encoder=text_encoder(one, 24, "quick_gelu"),
        text_encoder_2=text_encoder(two, 32, "gelu", 20),
        tokenizer=one,
        tokenizer_2=two,
        unet=denoiser(
            56,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 3),
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=20 + 6 * 8,
        ),
        scheduler=euler(),
        add_watermarker=False,
        **settings,
    ).save_pretrained(folder)
    return folder


def refiner(folder: Path) -> Path:
    """A StableDiffusionXLImg2ImgPipeline that is told an aesthetic score and has the second tower alone."""
    two = tokenizer(folder.with_name(folder.name + "-words-2"), "!")
    StableDiffusionXLImg2ImgPipeline(
        vae=autoencoder(scale=0.13025 * 4),
        text_encoder=None,
        text_encoder_2=text_encoder(two, 32, "gelu", 20),
        tokenizer=None,
        tokenizer_2=two,
        unet=denoiser(
            32,
            5,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=2,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=20 + 5 * 8,
        ),
        scheduler=euler(),
        requires_aesthetics_score=True,
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def _like_two(folder: Path) -> dict[str, Any]:
    """What Stable Diffusion 2's relatives have in common."""
    words = tokenizer(folder.with_name(folder.name + "-words"), "!")
    told = {"text_encoder": text_encoder(words, 24, "gelu"), "tokenizer": words}
    return told | {"vae": autoencoder(), "safety_checker": None, "feature_extractor": None}


def inpainting(folder: Path) -> Path:
    """A StableDiffusionInpaintPipeline like 2's: its U-Net reads nine channels."""
    StableDiffusionInpaintPipeline(
        unet=denoiser(24, in_channels=9, sample_size=12),
        scheduler=DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False),
        requires_safety_checker=False,
        **_like_two(folder),
    ).save_pretrained(folder)
    return folder


def upscaler(folder: Path) -> Path:
    """A StableDiffusionUpscalePipeline: a small picture beside the latents, and a class for its noise."""
    StableDiffusionUpscalePipeline(
        unet=denoiser(24, in_channels=7, num_class_embeds=50, only_cross_attention=(True, True, False)),
        low_res_scheduler=DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", num_train_timesteps=50, prediction_type="epsilon"
        ),
        scheduler=DDIMScheduler(
            **SCHEDULE, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction"
        ),
        watermarker=None,
        max_noise_level=49,
        **_like_two(folder),
    ).save_pretrained(folder)
    return folder


def ddpm(folder: Path, **settings: Any) -> Path:
    """A DDPMPipeline like the one of CIFAR-10, for oblong pictures."""
    model = UNet2DModel(
        sample_size=(12, 20),
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16, 24),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=8,
        downsample_padding=0,
        flip_sin_to_cos=False,
        freq_shift=1,
        norm_eps=1e-6,
    )
    DDPMPipeline(shaken(model, 4), DDPMScheduler(**settings)).save_pretrained(folder)
    return folder


# --- with heads and groups as published, which single files do not tell ------------------------------

USUAL: dict[str, Any] = {
    "block_out_channels": (32, 64, 64),
    "norm_num_groups": 32,
    "sample_size": 8,
    "attention_head_dim": 1,
}


def usual_stage(scale: float) -> nn.Module:
    stage = AutoencoderKL(
        block_out_channels=(32, 32),
        layers_per_block=1,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        scaling_factor=scale,
    )
    return shaken(stage, 3)


def published_one(folder: Path, *, inpaints: bool = False) -> Path:
    """Stable Diffusion 1: eight heads, convolutions, CLIP."""
    words = tokenizer(folder.parent / "tokenizer", EOS)
    kind = StableDiffusionInpaintPipeline if inpaints else StableDiffusionPipeline
    shape = USUAL | {"attention_head_dim": 8, "use_linear_projection": False}
    kind(
        vae=usual_stage(0.18215),
        text_encoder=text_encoder(words, 64, "quick_gelu", heads=1),
        tokenizer=words,
        unet=denoiser(64, **shape, in_channels=9 if inpaints else 4),
        scheduler=PNDMScheduler(**SCHEDULE, skip_prk_steps=True, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def published_two(folder: Path) -> Path:
    """Stable Diffusion 2: heads of 64, linear layers, OpenCLIP, v."""
    words = tokenizer(folder.parent / "tokenizer", "!")
    StableDiffusionPipeline(
        vae=usual_stage(0.18215),
        text_encoder=text_encoder(words, 128, "gelu", heads=2),
        tokenizer=words,
        unet=denoiser(128, **USUAL),
        scheduler=DDIMScheduler(
            **SCHEDULE, clip_sample=False, set_alpha_to_one=False, prediction_type="v_prediction"
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def published_xl(folder: Path, *, refines: bool = False) -> Path:
    """SDXL, or its refiner."""
    one, two = tokenizer(folder.parent / "tokenizer", EOS), tokenizer(folder.parent / "words", "!")
    levels = ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D" if refines else "CrossAttnDownBlock2D")
    shape = {
        "down_block_types": levels,
        "up_block_types": tuple(name.replace("Down", "Up") for name in reversed(levels)),
        "transformer_layers_per_block": 2 if refines else (1, 2, 3),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 20 + (5 if refines else 6) * 8,
    }
    first = (
        {} if refines else {"text_encoder": text_encoder(one, 64, "quick_gelu", heads=1), "tokenizer": one}
    )
    last = {"text_encoder_2": text_encoder(two, 128, "gelu", 20, heads=2), "tokenizer_2": two}
    rest = {
        "vae": usual_stage(0.13025),
        "unet": denoiser(128 if refines else 192, **USUAL | shape),
        "scheduler": euler(),
        "add_watermarker": False,
    }
    if refines:
        absent = {"text_encoder": None, "tokenizer": None, "requires_aesthetics_score": True}
        StableDiffusionXLImg2ImgPipeline(**absent, **last, **rest).save_pretrained(folder)
    else:
        first = {"text_encoder": text_encoder(one, 64, "quick_gelu", heads=1), "tokenizer": one}
        StableDiffusionXLPipeline(**first, **last, **rest).save_pretrained(folder)
    return folder
