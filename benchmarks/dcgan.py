"""A training step of DCGAN at equal size: ours as our trainer does it, theirs as the plain script does it.

    python -m benchmarks.dcgan [--rounds N] [--cases 32 64]

The other side has the structure of PyTorch's DCGAN example, rebuilt from its published description: both
networks as plain sequences of layers in fp32, three backward passes a step (real, fake, generator) through
all of both, binary cross entropy after a sigmoid, one Adam a network. Its generator's pass leaves gradients
in the critic which are thrown away; ours never computes them, multiplies in bf16 where the processor can, and
takes convolutions from and to a single place as the linear maps they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import tyro

from benchmarks.race import Side, Work, race, table


@dataclass(frozen=True)
class Case:
    """Pictures and widths."""

    size: int
    widths: tuple[int, ...]
    """Of the critic; the generator's are the same from the other end."""
    batch: int = 64


CASES = {"32": Case(32, (64, 128, 256)), "64": Case(64, (64, 128, 256, 512), 32)}


@dataclass(frozen=True)
class Args:
    """How much is timed."""

    rounds: int = 15
    cases: tuple[str, ...] = tuple(CASES)


def main(args: Args) -> None:
    for name in args.cases:
        case = CASES[name]
        sides = [
            Side("plain script", partial(plain, case)),
            Side("sfumato", partial(sfumato, case, "auto")),
            Side("sfumato fp32", partial(sfumato, case, "fp32")),
        ]
        race(sides, args.rounds, warm=2)
        print(f"{case.batch} pictures of 3 x {case.size} x {case.size}, widths {case.widths}")
        print(table(sides))
        print("losses after the last step: " + ", ".join(f"{side.name} {side.answer}" for side in sides))


def given(case: Case) -> Any:
    """The batch."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return torch.randn(case.batch, 3, case.size, case.size, generator=generator).tanh()


def plain(case: Case) -> Work:
    """The script's loop."""
    import torch
    from torch import nn

    def down(inside: int, outside: int, norm: bool) -> list[nn.Module]:
        layers: list[nn.Module] = [nn.Conv2d(inside, outside, 4, 2, 1, bias=False)]
        return layers + [nn.BatchNorm2d(outside)] * norm + [nn.LeakyReLU(0.2, inplace=True)]

    def up(inside: int, outside: int, stride: int, padding: int) -> list[nn.Module]:
        conv = nn.ConvTranspose2d(inside, outside, 4, stride, padding, bias=False)
        return [conv, nn.BatchNorm2d(outside), nn.ReLU(True)]

    def start(layer: nn.Module) -> None:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)

    w = case.widths
    torch.manual_seed(0)
    generator = nn.Sequential(
        *up(100, w[-1], 1, 0),
        *(layer for a, b in zip(w[:0:-1], w[-2::-1], strict=True) for layer in up(a, b, 2, 1)),
        nn.ConvTranspose2d(w[0], 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    ).apply(start)
    critic = nn.Sequential(
        *down(3, w[0], False),
        *(layer for a, b in pairwise(w) for layer in down(a, b, True)),
        nn.Conv2d(w[-1], 1, 4, 1, 0, bias=False),
        nn.Sigmoid(),
    ).apply(start)
    criterion = nn.BCELoss()
    moves = [torch.optim.Adam(n.parameters(), lr=2e-4, betas=(0.5, 0.999)) for n in (critic, generator)]
    real = given(case)
    ones, zeros = torch.ones(case.batch), torch.zeros(case.batch)

    def work() -> str:
        critic.zero_grad()
        of_real = criterion(critic(real).view(-1), ones)
        of_real.backward()
        fake = generator(torch.randn(case.batch, 100, 1, 1))
        of_fake = criterion(critic(fake.detach()).view(-1), zeros)
        of_fake.backward()
        moves[0].step()
        generator.zero_grad()
        deceived = criterion(critic(fake).view(-1), ones)
        deceived.backward()
        moves[1].step()
        return f"{(of_real + of_fake).item():.2f} / {deceived.item():.2f}"

    return work


def sfumato(case: Case, precision: Any) -> Work:
    """What ``Trainer`` does in a step, its checks of finite gradients and its moving average included."""
    import torch

    from sfumato.core.ema import MovingAverage
    from sfumato.core.optim import optimiser_of
    from sfumato.core.rng import Rng
    from sfumato.core.system import Batch
    from sfumato.device import autocast, setup
    from sfumato.nn.dcgan import DCGANNetsConfig
    from sfumato.systems.gans.dcgan import DCGAN, DCGANConfig

    setup()
    torch.manual_seed(0)
    network = DCGANNetsConfig(3, case.size, case.size, 100, case.widths[::-1], case.widths)
    system = DCGAN(DCGANConfig(network)).train()
    players = {
        name: (player.parameters(), optimiser_of(player, 1000)) for name, player in system.players().items()
    }
    real, place, steps = given(case), torch.device("cpu"), iter(range(10**9))
    average = MovingAverage(system, 0.995)

    def work() -> str:
        step = next(steps)
        losses = system.losses(Batch({"image": real}, Rng.training(0, step, range(case.batch))), step)
        told = []
        while True:
            with autocast(precision, place):
                loss = next(losses, None)
            if loss is None:
                average.update()
                return " / ".join(told)
            moving, optimiser = players[loss.player]
            loss.value.backward(inputs=moving)
            torch.nn.utils.get_total_norm([p.grad for p in moving if p.grad is not None]).isfinite().item()
            optimiser.step(step)
            optimiser.zero_grad()
            told.append(f"{loss.value.item():.2f}")

    return work


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
