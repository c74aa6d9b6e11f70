"""VQ-VAE and its two cousins: losses by hand, the book's moves, diffusers' VQModel on the same tensors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import VQModel

from sfumato.core.likelihood import Gaussian, Laplace, LogitLaplace
from sfumato.core.request import Images, Reconstruct
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss
from sfumato.errors import UsageError
from sfumato.nn.autoencoder import AutoencoderConfig
from sfumato.nn.patchgan import PatchCriticConfig
from sfumato.systems.autoencoders.vqvae import VQVAE, Hard, Soft, VQVAEConfig, perceptual_loss, temperature

NETWORK = AutoencoderConfig(
    channels=3, latent_channels=5, widths=(8, 16), blocks=1, groups=4, patch=2, attention=False
)
X = torch.rand(3, 3, 12, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1


def tiny(**changes: object) -> VQVAE:
    torch.manual_seed(1)
    return VQVAE(replace(VQVAEConfig(NETWORK, Hard(7), Gaussian(0.3)), **changes))


def batch() -> Batch:
    return Batch({"image": X}, Rng.training(0, 4, range(3)))


def moves(system: VQVAE, step: int = 0) -> list[Loss]:
    """The losses of one step, as the trainer would take them."""
    losses = []
    for loss in system.losses(batch(), step):
        assert loss.value.requires_grad
        losses.append(loss)
    return losses


def test_the_loss_is_equation_3():
    system = tiny()
    h = system.quant_conv(system.encoder(X))
    q = system.hard.look_up(system.hard.nearest(h))
    y = system.decoder(system.post_quant_conv(q))
    [loss] = moves(system)
    assert torch.allclose(loss.parts["commit"], 0.25 * (h - q).square().mean().detach(), rtol=1e-5)
    said = -Gaussian(0.3).log_prob(X, y).mean() / (3 * 12 * 20)
    assert torch.allclose(loss.parts["reconstruction"], said.detach(), rtol=1e-5)
    assert torch.allclose(loss.value, loss.parts["commit"] + loss.parts["reconstruction"])
    assert 1 <= loss.parts["perplexity"] <= 7


def test_gradients_reach_the_encoder_through_the_choice():
    system = tiny(book=Hard(7, commit=0.0))
    next(system.losses(batch(), 0)).value.backward()
    assert all(p.grad is not None and p.grad.any() for p in system.encoder.parameters())


def test_the_book_moves_after_the_networks_and_only_then():
    system = tiny(book=Hard(7, decay=0.5))
    before = system.hard.codes.clone()
    losses = system.losses(batch(), 0)
    next(losses)
    assert torch.equal(system.hard.codes, before)
    assert next(losses, None) is None
    assert not torch.equal(system.hard.codes, before)
    h = system.quant_conv(system.encoder(X)).flatten(2).movedim(1, -1).reshape(-1, 5)
    started = (torch.cdist(system.hard.codes, h) < 1e-4).any(1)
    assert started.sum() >= 3, "codes that nothing chose start at vectors of the batch, one for each picture"


def test_without_restarts_codes_that_nothing_chooses_stay():
    system = tiny(book=Hard(500, restart=0.0))
    before = system.hard.codes.clone()
    moves(system)
    assert (system.hard.codes == before).all(1).sum() >= 400


def test_the_soft_books_loss_is_dalles():
    book = Soft(6, kl=0.8, kl_steps=10, temperature=0.1, cool_steps=100)
    system = tiny(book=book, likelihood=LogitLaplace())
    logits = system.quant_conv(system.encoder(X))
    assert logits.shape == (3, 6, 3, 5)
    noise = Rng.training(0, 4, range(3)).normal(6, 3, 5)
    gumbel = -(-torch.special.ndtr(noise.double()).log()).log()
    soft = ((logits + gumbel) / temperature(book, 4)).softmax(1).float()
    z = torch.einsum("bkij,kd->bdij", soft, system.soft.weight)
    out = system.decoder(system.post_quant_conv(z))
    assert out.shape == (3, 6, 12, 20)
    q = torch.distributions.Categorical(logits=logits.movedim(1, -1))
    even = torch.distributions.Categorical(logits=torch.zeros(3, 3, 5, 6))
    spent = torch.distributions.kl_divergence(q, even).sum((1, 2)).mean()
    [loss] = moves(system, step=4)
    numbers = 3 * 12 * 20
    assert torch.allclose(loss.parts["kl"], (0.8 * 0.5 * spent / numbers).detach(), rtol=1e-4)
    said = -LogitLaplace().log_prob(X, out).mean() / numbers
    assert torch.allclose(loss.parts["reconstruction"], said.detach(), rtol=1e-4)


def test_the_temperature_falls_along_a_cosine():
    book = Soft(cool_steps=1000)
    assert temperature(book, 0) == 1
    assert temperature(book, 500) == pytest.approx(0.25)
    assert temperature(book, 1000) == temperature(book, 5000) == pytest.approx(1 / 16)


def test_the_critic_is_silent_at_first_then_balanced_by_gradients():
    changes = {
        "likelihood": Laplace(0.3),
        "adversarial": 0.8,
        "adversarial_from": 5,
        "critic": PatchCriticConfig(width=4, layers=1),
    }
    system = tiny(**changes)
    assert set(system.players()) == {"autoencoder", "critic"}
    assert [loss.player for loss in moves(system, step=4)] == ["autoencoder"]

    system = tiny(**changes)
    h = system.quant_conv(system.encoder(X))
    q = system.hard.look_up(system.hard.nearest(h))
    out = system.decoder(system.post_quant_conv(h + (q - h).detach()))
    said = -Laplace(0.3).log_prob(X, out).mean() / (3 * 12 * 20)
    game = -system.critic(out.clamp(-1, 1)).mean()
    pulls = [torch.autograd.grad(part, out, retain_graph=True)[0].norm() for part in (said, game)]
    first, second = moves(system, step=5)
    weight = 0.8 * pulls[0] / (pulls[1] + 1e-4)
    assert torch.allclose(first.parts["game"], (weight * game).detach(), rtol=1e-3)
    assert second.player == "critic"
    margin = torch.relu(1 - system.critic(X)).mean() + torch.relu(1 + system.critic(out.clamp(-1, 1))).mean()
    assert torch.allclose(second.value, margin, rtol=1e-3)
    gradients = torch.autograd.grad(second.value, list(system.decoder.parameters()), allow_unused=True)
    assert all(g is None for g in gradients), "the critic's loss must not pull the decoder"


def test_the_perceptual_term_is_nothing_for_the_same_picture():
    system = tiny(perceptual=2.0)
    [loss] = moves(system)
    assert 0.1 < loss.parts["perceptual"] < 20
    assert perceptual_loss(X, X) == 0
    assert perceptual_loss(X[:, :1], X[:, :1].flip(3)) > 0


@pytest.mark.parametrize("book", [Hard(7), Soft(7)])
@torch.no_grad()
def test_pictures_become_numbers_and_numbers_pictures(book):
    system = tiny(book=book).eval()
    tokens = system.tokens(X)
    assert tokens.shape == (3, 3, 5)
    assert 0 <= tokens.min() <= tokens.max() < 7
    *_, answer = system.run(Reconstruct(images=X, seed=2))
    assert isinstance(answer, Images)
    assert answer.seeds == (2, 3, 4)
    assert torch.allclose(answer.pixels, system.pictures(tokens), atol=1e-5)
    other = system.pictures((tokens + 1) % 7)
    assert not torch.allclose(other, answer.pixels)


def test_sizes_that_do_not_fold_are_refused():
    with pytest.raises(UsageError, match="must be multiples of 4, got 12 x 22; crop or pad"):
        tiny().tokens(torch.zeros(1, 3, 12, 22))


@torch.no_grad()
def test_the_network_is_the_published_one():
    """diffusers' VQModel, with the same weights and the same book, gives the same picture."""
    theirs = VQModel(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=5,
        norm_num_groups=4,
        num_vq_embeddings=7,
        mid_block_add_attention=True,
    ).eval()
    theirs.quantize.embedding.weight.normal_(generator=torch.Generator().manual_seed(2))
    network = replace(NETWORK, patch=1, attention=True)
    system = VQVAE(VQVAEConfig(network, Hard(7), Gaussian())).eval()
    weights = dict(theirs.state_dict())
    codes = weights.pop("quantize.embedding.weight")
    missing, unknown = system.load_state_dict(weights, strict=False)
    assert unknown == []
    assert all(name.startswith("hard.") for name in missing)
    system.hard.codes.copy_(codes)
    x = X[:, :, :, :14]
    expected = theirs(x).sample
    assert expected.std() > 0.1
    assert torch.allclose(system.pictures(system.tokens(x)), expected.clamp(-1, 1), atol=1e-4)


def test_the_published_first_stage_has_its_size():
    """VQ-f4 of latent diffusion: 55.3 million parameters, of them 24,576 in the book of 8192 codes of 3."""
    network = AutoencoderConfig(latent_channels=3, widths=(128, 256, 512))
    with torch.device("meta"):
        system = VQVAE(VQVAEConfig(network, Hard(8192)))
    count = sum(p.numel() for p in system.parameters()) + system.hard.codes.numel()
    assert round(count / 1e6, 1) == 55.3
