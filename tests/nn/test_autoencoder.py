"""Our KL autoencoder against diffusers' on the same weights, with odd widths and oblong pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import AutoencoderKL

from sfumato.nn.autoencoder import Autoencoder, AutoencoderConfig

SMALL = AutoencoderConfig(channels=2, latent_channels=5, widths=(6, 10, 14), blocks=2, groups=2)


def theirs(config: AutoencoderConfig) -> AutoencoderKL:
    levels = len(config.widths)
    model = AutoencoderKL(
        in_channels=config.channels,
        out_channels=config.channels,
        latent_channels=config.latent_channels,
        block_out_channels=config.widths,
        layers_per_block=config.blocks,
        norm_num_groups=config.groups,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        mid_block_add_attention=config.attention,
        use_quant_conv=config.quant_conv,
        use_post_quant_conv=config.quant_conv,
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    return model.eval()


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, blocks=1, attention=False),
        replace(SMALL, quant_conv=False),
        replace(SMALL, widths=(6, 6)),
    ],
    ids=["all", "no attention", "no quant conv", "two equal levels"],
)
def test_equals_diffusers(config):
    model, mine = theirs(config), Autoencoder(config).eval()
    mine.load_state_dict(model.state_dict())
    x = torch.randn(3, 2, 20, 28, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        mean, logvar = mine.encode(x)
        want = model.encode(x).latent_dist
        assert mean.shape == (3, 5, 20 // config.factor, 28 // config.factor)
        torch.testing.assert_close(mean, want.mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logvar, want.logvar, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mine.decode(mean), model.decode(mean).sample, rtol=1e-4, atol=1e-4)


def test_the_defaults_are_stable_diffusions():
    with torch.device("meta"):
        names = {k: v.shape for k, v in Autoencoder(AutoencoderConfig()).state_dict().items()}
        model = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
    assert names == {k: v.shape for k, v in model.state_dict().items()}
    assert sum(s.numel() for s in names.values()) == 83_653_863
    assert AutoencoderConfig().factor == 8


def test_gradients_and_inference_agree():
    """Without gradients the activations are overwritten in place; the answer must not change."""
    mine = Autoencoder(SMALL).eval()
    x = torch.randn(1, 2, 12, 20)
    with torch.no_grad():
        quiet = mine(x)
    loud = mine(x)
    torch.testing.assert_close(quiet, loud)
    loud.square().mean().backward()
    assert all(p.grad is not None for p in mine.decoder.parameters())


def test_channels_last_gives_the_same_picture():
    mine = Autoencoder(SMALL).eval()
    z = torch.randn(2, 5, 3, 7)
    with torch.no_grad():
        want = mine.decode(z)
        answer = mine.to(memory_format=torch.channels_last).decode(z)
    torch.testing.assert_close(answer, want, rtol=1e-4, atol=1e-5)


def test_a_patch_stem_folds_pixels_first():
    config = AutoencoderConfig(
        latent_channels=4, widths=(8, 16), blocks=1, groups=4, patch=2, attention=False
    )
    mine = Autoencoder(config).eval()
    assert config.factor == 4
    assert mine.encoder.conv_in.weight.shape[1] == 12
    x = torch.randn(2, 3, 12, 20)
    with torch.no_grad():
        mean, logvar = mine.encode(x)
        assert mean.shape == logvar.shape == (2, 4, 3, 5)
        assert mine.decode(mean).shape == x.shape


def test_the_log_variance_stays_in_its_range():
    mine = Autoencoder(SMALL)
    with torch.no_grad():
        mine.quant_conv.bias.copy_(torch.tensor([0.0] * 5 + [1e3, -1e3, 1e3, -1e3, 0.0]))
        _, logvar = mine.encode(torch.randn(1, 2, 8, 12))
    assert logvar.max() == 20
    assert logvar.min() == -30
