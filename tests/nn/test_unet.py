"""Our U-Net is diffusers' U-Net, and ADM's, given the same weights."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn
from torch.nn.functional import (
    avg_pool2d,
    conv2d,
    group_norm,
    interpolate,
    pixel_shuffle,
    pixel_unshuffle,
    silu,
)

from sfumato.config import from_dict, to_dict
from sfumato.errors import UsageError
from sfumato.nn.blocks import Double, Halve, ResBlock
from sfumato.nn.condition import Condition
from sfumato.nn.unet import UNet, UNetConfig


def of_unet2d(config: Any, **more: Any) -> UNetConfig:
    """Our configuration for diffusers' UNet2DModel."""
    return UNetConfig(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        widths=tuple(config["block_out_channels"]),
        blocks=(config["layers_per_block"],),
        attend=tuple("Attn" in kind for kind in config["down_block_types"]),
        head_width=config["attention_head_dim"] or 0,
        middle_attention=config["add_attention"],
        resblock="scale_shift" if config["resnet_time_scale_shift"] == "scale_shift" else "add",
        resize="resblock" if config["downsample_type"] == "resnet" else "conv",
        groups=config["norm_num_groups"],
        eps=config["norm_eps"],
        dropout=config["dropout"],
        classes=config["num_class_embeds"] or 0,
        flip_sin_to_cos=config["flip_sin_to_cos"],
        freq_shift=float(config["freq_shift"]),
        downsample_padding=config["downsample_padding"],
        **more,
    )


def of_unet2d_condition(config: Any) -> UNetConfig:
    """Our configuration for diffusers' UNet2DConditionModel."""

    def spread(value: Any) -> tuple[int, ...]:
        return (value,) if isinstance(value, int) else tuple(value)

    extra = config["addition_embed_type"] == "text_time"
    return UNetConfig(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        widths=tuple(config["block_out_channels"]),
        blocks=spread(config["layers_per_block"]),
        attend=tuple("Attn" in kind for kind in config["down_block_types"]),
        heads=spread(config["attention_head_dim"]),
        depth=spread(config["transformer_layers_per_block"]),
        context=config["cross_attention_dim"],
        linear_projection=config["use_linear_projection"],
        groups=config["norm_num_groups"],
        eps=config["norm_eps"],
        vector=config["projection_class_embeddings_input_dim"] if extra else 0,
        flip_sin_to_cos=config["flip_sin_to_cos"],
        freq_shift=float(config["freq_shift"]),
    )


CIFAR = {
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}
PLAIN = {
    "cifar": CIFAR | {"block_out_channels": (12, 24, 24, 36), "norm_num_groups": 6},
    "heads": {
        "block_out_channels": (20, 30, 40),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 10,
        "layers_per_block": 1,
        "norm_num_groups": 5,
        "in_channels": 1,
        "out_channels": 2,
    },
    "no attention": {
        "block_out_channels": (14, 28),
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "norm_num_groups": 7,
        "add_attention": False,
        "layers_per_block": 3,
    },
    "classes": {
        "block_out_channels": (16, 24),
        "down_block_types": ("AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D"),
        "norm_num_groups": 8,
        "num_class_embeds": 5,
    },
    "adm": {
        "block_out_channels": (16, 24, 32),
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 8,
        "norm_num_groups": 8,
        "num_class_embeds": 3,
        "out_channels": 6,
    },
}
TOLD = {
    "sd1": {
        "block_out_channels": (20, 40, 60),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 2,
        "cross_attention_dim": 13,
        "norm_num_groups": 5,
    },
    "sd2": {
        "block_out_channels": (16, 32, 48),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": (2, 4, 6),
        "use_linear_projection": True,
        "cross_attention_dim": 24,
        "norm_num_groups": 8,
        "layers_per_block": 1,
    },
    "inpainting": {
        "block_out_channels": (16, 24),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 4,
        "cross_attention_dim": 10,
        "norm_num_groups": 4,
        "in_channels": 9,
    },
    "sdxl": {
        "block_out_channels": (16, 24, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (2, 3, 4),
        "transformer_layers_per_block": (1, 2, 3),
        "use_linear_projection": True,
        "cross_attention_dim": 11,
        "norm_num_groups": 8,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 31,
    },
}


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in net.state_dict().items()}


def stirred(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network with random weights everywhere, norms and biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(noise / max(p[0].numel(), 1) ** 0.5 if p.ndim > 1 else 0.5 * noise + (p.mean() > 0.5))
    return net.eval()


def pair(theirs: nn.Module, config: UNetConfig) -> UNet:
    """Our network with the weights of ``theirs``."""
    stirred(theirs)
    ours = UNet(config)
    assert shapes(ours) == shapes(theirs)
    ours.load_state_dict(theirs.state_dict())
    return ours.eval()


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CLOCK = torch.tensor([3.0, 999.0, 421.0])


@pytest.mark.parametrize("name", PLAIN)
@torch.no_grad()
def test_equals_unet2d(name):
    theirs = UNet2DModel(**PLAIN[name])
    ours = pair(theirs, of_unet2d(theirs.config))
    x = noise(3, theirs.config["in_channels"], 24, 40)
    labels = torch.tensor([2, 0, 1]) if theirs.config["num_class_embeds"] else None
    cond = Condition()
    if labels is not None:
        cond = Condition(vector=torch.eye(theirs.config["num_class_embeds"])[labels])
    expected = theirs(x, CLOCK, labels).sample
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(x, CLOCK, cond), expected, atol=1e-5, rtol=1e-5)
    as_sampled = ours(x.contiguous(memory_format=torch.channels_last), CLOCK, cond)
    torch.testing.assert_close(as_sampled, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TOLD)
@torch.no_grad()
def test_equals_unet2d_condition(name):
    theirs = UNet2DConditionModel(**TOLD[name])
    config = of_unet2d_condition(theirs.config)
    ours = pair(theirs, config)
    x, tokens = noise(3, config.in_channels, 22, 36), noise(3, 7, config.context, seed=2)
    cond, more = Condition(tokens=tokens), None
    if config.vector:
        text, sizes = noise(3, 31 - 6 * 4), noise(3, 6).abs() * 100
        more = {"text_embeds": text, "time_ids": sizes}
        cond = Condition(tokens=tokens, vector=_text_time(theirs, text, sizes))
    expected = theirs(x, CLOCK, tokens, added_cond_kwargs=more).sample
    assert expected.std() > 0.1
    torch.testing.assert_close(ours(x, CLOCK, cond), expected, atol=1e-5, rtol=1e-5)


def _text_time(theirs: UNet2DConditionModel, text: Tensor, sizes: Tensor) -> Tensor:
    return torch.cat([text, theirs.add_time_proj(sizes.flatten()).view(3, -1)], 1)


@torch.no_grad()
def test_residuals_are_those_of_diffusers_controlnet():
    theirs = UNet2DConditionModel(**TOLD["sd2"])
    ours = pair(theirs, of_unet2d_condition(theirs.config))
    x, tokens = noise(3, 4, 20, 28), noise(3, 7, 24, seed=2)
    cond = Condition(tokens=tokens)
    _, features = ours.encode(x, CLOCK, cond)
    *down, middle = residuals = [noise(*f.shape, seed=i) for i, f in enumerate(features)]
    expected = theirs(
        x, CLOCK, tokens, down_block_additional_residuals=down, mid_block_additional_residual=middle
    ).sample
    torch.testing.assert_close(ours(x, CLOCK, cond, residuals), expected, atol=1e-5, rtol=1e-5)
    assert (expected - ours(x, CLOCK, cond)).abs().max() > 0.1


SD = {
    "in_channels": 4,
    "out_channels": 4,
    "widths": (320, 640, 1280, 1280),
    "attend": (True, True, True, False),
    "depth": (1,),
}
ADM = {"out_channels": 6, "resblock": "scale_shift", "resize": "resblock", "head_width": 64, "classes": 1000}


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (UNetConfig(attend=(False, True, False, False)), 35.746),  # Ho et al. 2020: 35.7M
        (UNetConfig(**SD, heads=(8,), context=768), 859.52),
        (UNetConfig(**SD, heads=(5, 10, 20, 20), context=1024, linear_projection=True), 865.91),
        # Dhariwal & Nichol 2021, table of hyperparameters: 296M at 64 x 64, 554M at 256 x 256.
        (
            UNetConfig(
                **ADM, widths=(192, 384, 576, 768), blocks=(3,), attend=(False, True, True, True), dropout=0.1
            ),
            295.90,
        ),
        (
            UNetConfig(
                **ADM,
                widths=(256, 256, 512, 512, 1024, 1024),
                attend=(False, False, False, True, True, True),
            ),
            553.84,
        ),
    ],
    ids=["DDPM CIFAR", "SD 1", "SD 2", "ADM 64", "ADM 256"],
)
def test_parameters_are_as_many_as_published(config, millions):
    with torch.device("meta"):
        count = sum(p.numel() for p in UNet(config).parameters())
    assert round(count / 1e6, 2) == round(millions, 2)


@pytest.mark.parametrize("resize", [None, "half", "double"])
@torch.no_grad()
def test_adm_blocks_follow_their_equations(resize):
    """Dhariwal & Nichol 2021, section 3: AdaGN(h, y) = y_s GroupNorm(h) + y_b, BigGAN's resampling."""
    shape = {None: None, "half": Halve(), "double": Double()}[resize]
    block = stirred(ResBlock(12, 18, 10, groups=3, eps=1e-5, scale_shift=True, resize=shape))
    x, emb, w = noise(2, 12, 8, 6), noise(2, 10), block.state_dict()

    def resized(h: Tensor) -> Tensor:
        h = avg_pool2d(h, 2) if resize == "half" else h
        return interpolate(h, scale_factor=2) if resize == "double" else h

    h = resized(silu(group_norm(x, 3, w["norm1.weight"], w["norm1.bias"])))
    h = conv2d(h, w["conv1.weight"], w["conv1.bias"], padding=1)
    y_s, y_b = (emb @ w["time_emb_proj.weight"].T + w["time_emb_proj.bias"])[:, :, None, None].split(18, 1)
    h = (1 + y_s) * group_norm(h, 3, w["norm2.weight"], w["norm2.bias"]) + y_b
    h = conv2d(silu(h), w["conv2.weight"], w["conv2.bias"], padding=1)
    expected = h + conv2d(resized(x), w["conv_shortcut.weight"], w["conv_shortcut.bias"])
    torch.testing.assert_close(block(x, emb), expected, atol=1e-5, rtol=1e-5)


SMALL = UNetConfig(
    in_channels=5,
    out_channels=3,
    widths=(12, 24),
    attend=(True, False),
    heads=(2, 3),
    depth=(1,),
    context=7,
    groups=4,
    vector=9,
    blocks=(1, 2),
)


def told(count: int, seed: int = 5) -> tuple[Tensor, Tensor, Condition]:
    """Pictures, times and everything else that ``SMALL`` reads."""
    clock = torch.linspace(1.0, 900.0, count)
    x, spatial = noise(count, 3, 14, 18, seed=seed), noise(count, 2, 14, 18, seed=seed + 1)
    tokens, vector = noise(count, 6, 7, seed=seed + 2), noise(count, 9, seed=seed + 3)
    return x, clock, Condition(tokens=tokens, vector=vector, spatial=spatial)


def test_every_parameter_and_input_gets_a_gradient():
    net = stirred(UNet(SMALL))
    x, clock, cond = told(2)
    inputs = [t.requires_grad_() for t in (x, cond.tokens, cond.vector, cond.spatial)]
    net(x, clock, cond).square().mean().backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still
    assert all(t.grad.any() for t in inputs)


def test_a_fresh_network_says_nothing():
    x, clock, cond = told(2)
    net = UNet(SMALL)
    assert not net(x, clock, cond).any()
    dead = {"conv2", "proj_out"}
    assert not any(
        p.any() for name, p in net.named_parameters() if set(name.split(".")) & dead and "norm" not in name
    )


@torch.no_grad()
def test_an_answer_does_not_depend_on_its_neighbours():
    net = stirred(UNet(SMALL))
    x, clock, cond = told(3)
    alone = Condition(tokens=cond.tokens[1:2], vector=cond.vector[1:2], spatial=cond.spatial[1:2])
    together = net(x, clock, cond)[1:2]
    torch.testing.assert_close(net(x[1:2], clock[1:2], alone), together, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_half_precision_is_near():
    net = stirred(UNet(SMALL))
    x, clock, cond = told(2)
    exact = net(x, clock, cond)
    halved = net.bfloat16()(x.bfloat16(), clock, cond.to(x.bfloat16()))
    assert halved.dtype == torch.bfloat16
    assert (halved.float() - exact).norm() < 3e-2 * exact.norm()


def test_dropout_draws_from_the_global_generator_alone():
    net = stirred(UNet(replace(SMALL, dropout=0.4))).train()
    x, clock, cond = told(2)
    answers = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        answers.append(net(x, clock, cond))
    assert torch.equal(answers[0], answers[1])
    assert not torch.equal(answers[0], answers[2])


@torch.no_grad()
def test_patches_are_folded_into_channels():
    plain = UNetConfig(in_channels=8, out_channels=12, widths=(8, 16), groups=4)
    folded = replace(plain, in_channels=2, out_channels=3, patch=2)
    ours, without = stirred(UNet(folded)), stirred(UNet(plain))
    x, clock = noise(2, 2, 12, 20), torch.tensor([1.0, 2.0])
    expected = pixel_shuffle(without(pixel_unshuffle(x, 2), clock, Condition()), 2)
    torch.testing.assert_close(ours(x, clock, Condition()), expected, atol=1e-6, rtol=1e-6)
    with pytest.raises(UsageError, match=r"multiples of 2, got \(11, 20\); crop"):
        ours(x[:, :, 1:], clock, Condition())


def test_configuration_survives_json():
    assert from_dict(UNetConfig, json.loads(json.dumps(to_dict(SMALL)))) == SMALL


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"blocks": (1, 2, 3)}, r"blocks has 3 entries for 2 levels; give one"),
        ({"groups": 5}, r"widths has 12, which 5 groups do not divide; choose"),
        ({"classes": 3}, r"both classes and vector.*leave one"),
        ({"heads": (5,)}, r"width of 12 does not fall into heads.*change"),
        ({"head_width": 9}, r"width of 12 does not fall into heads.*change"),
    ],
)
def test_wrong_shapes_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        replace(SMALL, **wrong)


def test_wrong_inputs_are_refused():
    net = UNet(SMALL)
    x, clock, cond = told(2)
    with pytest.raises(UsageError, match=r"reads 5 channels, got 3 .*; change"):
        net(x, clock, replace(cond, spatial=None))
    with pytest.raises(UsageError, match=r"tokens of width 7 .*got width 0; give"):
        net(x, clock, replace(cond, tokens=None))
    with pytest.raises(UsageError, match=r"vector of width 9 .*got width 4; give"):
        net(x, clock, replace(cond, vector=noise(2, 4)))
    with pytest.raises(UsageError, match=r"takes 6 residuals.*got 1; the side network"):
        net(x, clock, cond, [x])
