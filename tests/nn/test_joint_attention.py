"""Plain attention that reads a context in the same glance, against diffusers' attention with added keys."""

from __future__ import annotations

import torch
from diffusers.models.attention_processor import Attention, AttnAddedKVProcessor

from sfumato.nn.blocks import SpatialAttention
from sfumato.nn.condition import Condition
from sfumato.nn.unet import UNet, UNetConfig


@torch.no_grad()
def test_it_is_diffusers_attention_with_added_keys_and_values():
    torch.manual_seed(0)
    theirs = Attention(
        query_dim=24,
        heads=3,
        dim_head=8,
        added_kv_proj_dim=10,
        norm_num_groups=4,
        eps=1e-5,
        bias=True,
        residual_connection=True,
        processor=AttnAddedKVProcessor(),
    ).eval()
    ours = SpatialAttention(24, 3, groups=4, eps=1e-5, context=10).eval()
    for p in theirs.parameters():
        p.normal_(std=0.3)
    ours.load_state_dict(theirs.state_dict())
    x, context = torch.randn(2, 24, 5, 7), torch.randn(2, 9, 10)
    told = theirs(x, encoder_hidden_states=context)
    assert (told - x).std() > 0.1
    assert (told - ours(x, context)).abs().max() < 1e-5


@torch.no_grad()
def test_a_network_of_plain_attention_reads_every_token_of_its_context():
    torch.manual_seed(0)
    network = UNet(
        UNetConfig(
            widths=(8, 16), blocks=(1,), attend=(False, True), heads=(2,), groups=4, context=6, joint=True
        )
    ).eval()
    for p in network.parameters():
        if not p.any():
            p.normal_(std=0.2)
    x, clock, tokens = torch.randn(2, 3, 10, 6), torch.tensor([3.0, 400.0]), torch.randn(2, 5, 6)
    before = network(x, clock, Condition(tokens=tokens))
    tokens[0, 4] += 1
    after = network(x, clock, Condition(tokens=tokens))
    assert not torch.allclose(before[0], after[0], atol=1e-4)
    assert torch.allclose(before[1], after[1], atol=1e-6)
