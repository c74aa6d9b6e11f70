"""Our CLIP text tower against transformers' on the same weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel

from sfumato.nn.clip_text import ClipText, ClipTextConfig

SMALL = ClipTextConfig(vocabulary=53, length=11, width=24, layers=3, heads=4, hidden=40)


def theirs(config: ClipTextConfig) -> CLIPTextModel:
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=config.vocabulary,
            max_position_embeddings=config.length,
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.hidden,
            hidden_act=config.activation,
            layer_norm_eps=config.eps,
            bos_token_id=51,
            eos_token_id=52,
        )
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.3)
    return model.eval()


def ours(model: CLIPTextModel, config: ClipTextConfig) -> ClipText:
    mine = ClipText(config)
    mine.load_state_dict(
        {f"text_model.{k.removeprefix('text_model.')}": v for k, v in model.state_dict().items()}
    )
    return mine.eval()


@pytest.mark.parametrize("length", [11, 7])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_equals_transformers(activation, length):
    config = replace(SMALL, activation=activation)
    model = theirs(config)
    tokens = torch.randint(0, 50, (2, length), generator=torch.Generator().manual_seed(2))
    tokens[:, -1] = 52
    with torch.no_grad():
        answer = ours(model, config)(tokens)
        want = model(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(answer, want, rtol=1e-4, atol=1e-5)


def test_the_activation_matters():
    model = theirs(SMALL)
    tokens = torch.arange(11)[None]
    with torch.no_grad():
        wrong = ours(model, replace(SMALL, activation="gelu"))(tokens)
        assert (wrong - model(input_ids=tokens).last_hidden_state).abs().max() > 1e-3


def test_skipping_gives_the_penultimate_layer_normalised():
    model = theirs(SMALL)
    tokens = torch.arange(11)[None]
    with torch.no_grad():
        answer = ours(model, replace(SMALL, skip=1))(tokens)
        states = model(input_ids=tokens, output_hidden_states=True).hidden_states
        want = model.final_layer_norm(states[-2])
    torch.testing.assert_close(answer, want, rtol=1e-4, atol=1e-5)


def test_a_token_sees_only_what_stands_before_it():
    tower = ClipText(SMALL).eval()
    tokens = torch.arange(11)[None]
    later = tokens.clone()
    later[0, 6] = 40
    with torch.no_grad():
        a, b = tower(tokens), tower(later)
    assert torch.equal(a[:, :6], b[:, :6])
    assert not torch.equal(a[:, 6:], b[:, 6:])


def test_the_tower_starts_small_and_learns():
    torch.manual_seed(0)
    tower = ClipText(SMALL)
    assert tower.text_model.embeddings.token_embedding.weight.std() < 0.03
    tower(torch.arange(11)[None]).square().mean().backward()
    assert all(p.grad is not None for p in tower.parameters())
