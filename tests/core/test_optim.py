"""Muon against PyTorch's own, the split between Muon and AdamW, and the learning rate over time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.core.optim import Muon, optimiser_of, orthogonal, rate
from sfumato.core.system import OptimConfig, Player


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.place = nn.Parameter(torch.randn(1, 4, 6))
        self.stem = nn.Conv2d(3, 6, 3)
        self.conv = nn.Conv2d(6, 10, (3, 2))
        self.up = nn.ConvTranspose2d(10, 6, 2)
        self.mid = nn.Linear(6, 9)
        self.norm = nn.LayerNorm(9)
        self.head = nn.Linear(9, 5)
        self.frozen = nn.Linear(5, 5).requires_grad_(False)


def with_gradients(seed: int, module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.grad = torch.randn(p.shape, generator=generator)


def twins(*shapes: tuple[int, int]) -> tuple[nn.ParameterList, nn.ParameterList]:
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(shape, generator=generator) for shape in shapes]
    return nn.ParameterList(w.clone() for w in weights), nn.ParameterList(w.clone() for w in weights)


def test_muon_moves_matrices_as_pytorchs_does():
    shapes = [(17, 5), (5, 17), (12, 12), (12, 12), (17, 5)]
    mine, theirs = twins(*shapes)
    ours = Muon(mine, lr=0.02, weight_decay=0.1)
    torchs = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for seed in range(5):
        with_gradients(seed, mine)
        with_gradients(seed, theirs)
        ours.step()
        torchs.step()
    for a, b in zip(mine, theirs, strict=True):
        moved = (b - a).norm() / (b.std() * b.numel() ** 0.5)
        assert moved < 2e-3, moved  # Both round to bfloat16, each in its own order.


def test_muon_in_fp32_is_the_iteration_itself():
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(3, 7, 4, generator=generator, dtype=torch.float64)
    found = orthogonal(matrices, torch.float64)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    s = s / s.norm(dim=1, keepdim=True)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(found, u * s[:, None] @ vh, rtol=1e-6, atol=1e-9)
    assert 0.6 < s.min() <= s.max() < 1.3


def test_muon_takes_kernels_as_matrices():
    kernel, matrix = nn.Conv2d(4, 6, (3, 2)), nn.Linear(24, 6)
    matrix.weight.data = kernel.weight.data.flatten(1).clone()
    kernel.weight.grad = torch.randn(6, 4, 3, 2, generator=torch.Generator().manual_seed(1))
    matrix.weight.grad = kernel.weight.grad.flatten(1)
    for p in (kernel.weight, matrix.weight):
        Muon([p], lr=0.1, dtype=torch.float32).step()
    assert torch.equal(kernel.weight.flatten(1), matrix.weight)


def test_muon_takes_inner_layers_and_adamw_the_rest():
    tower = Tower()
    player = Player((tower,), OptimConfig("muon"), ends=(tower.stem, tower.head))
    optimiser = optimiser_of(player, 10)
    with_gradients(0, tower)
    optimiser.step(0)
    kinds = {key.partition("/")[2]: key.partition("/")[0] for key in optimiser.state_dict()}
    muon = {name.removeprefix("0.") for name, kind in kinds.items() if kind == "momentum"}
    assert muon == {"conv.weight", "up.weight", "mid.weight"}
    rest = {name.removeprefix("0.") for name in kinds} - muon
    assert rest == {n for n, p in tower.named_parameters() if p.requires_grad} - muon


def test_adamw_is_pytorchs_and_decays_matrices_only():
    mine, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(mine.state_dict())
    optimiser = optimiser_of(
        Player((mine,), OptimConfig(lr=0.1, weight_decay=0.5, betas=(0.8, 0.9))), 10, torch.float32
    )
    groups = [
        {"params": [theirs.weight], "weight_decay": 0.5},
        {"params": [theirs.bias], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=0.1, betas=(0.8, 0.9))
    for seed in range(4):
        with_gradients(seed, mine)
        with_gradients(seed, theirs)
        optimiser.step(seed)
        reference.step()
    torch.testing.assert_close(mine.weight, theirs.weight, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(mine.bias, theirs.bias, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_goes_out_and_in_bit_for_bit(kind):
    def tower_and_optimiser():
        torch.manual_seed(5)
        tower = Tower()
        return tower, optimiser_of(Player((tower,), OptimConfig(kind, lr=0.1)), 10)

    one, first = tower_and_optimiser()
    two, second = tower_and_optimiser()
    for seed in range(3):
        with_gradients(seed, one)
        first.step(seed)
    two.load_state_dict(one.state_dict())
    second.load_state_dict({k: v.clone() for k, v in first.state_dict().items()})
    for tower, optimiser in ((one, first), (two, second)):
        with_gradients(9, tower)
        optimiser.step(3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_the_rate_rises_stays_and_falls():
    config = OptimConfig(warmup=4, decay=0.3)
    rates = [rate(config, step, 20) for step in range(20)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:15] == [1.0] * 11
    assert rates[14:] == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert [rate(OptimConfig(), step, 20) for step in (0, 19)] == [1.0, 1.0]
    assert rate(config, 25, 20) == 0.0


def test_shared_parameters_move_once():
    layer = nn.Linear(3, 3)
    optimiser = optimiser_of(Player((layer, nn.Sequential(layer)), OptimConfig(lr=0.1)), 10)
    with_gradients(0, layer)
    before = layer.bias.detach().clone()
    optimiser.step(0)
    assert (layer.bias - before).abs().max().item() == pytest.approx(0.1, rel=1e-3)
