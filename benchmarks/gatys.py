"""Neural style at 512 x 512: ours beside the plain script around VGG-19 that tutorials show, in turn.

    python -m benchmarks.gatys [--side 512] [--closures 20] [--rounds 3] [--threads 2] [--of 200]

The script is the reference implementation's network at the published size, with random weights (times do not
depend on them), built here from the paper: VGG-19 up to conv5_1, max pooling, style from conv1_1 to conv5_1,
content from conv4_2, torch.optim.LBFGS with its defaults. Ours runs twice: as it comes along, with the small
network, and with VGG-19 of the same layers, so that it is seen what the network and what the code saves.
``closures`` are timed a round, and the time of ``of`` is worked out from their median; what is computed once,
as the style's matrices, is in it, so few closures make ``of`` look slower than they are.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, mse_loss

from benchmarks.race import Side, Work, race, table

STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 1))
CONTENT, STYLE = "4_2", ("1_1", "2_1", "3_1", "4_1", "5_1")


def pictures(side: int) -> tuple[Tensor, Tensor]:
    """A photograph, or noise where there is none, and a style."""
    from sfumato.data.photos import open_photo
    from sfumato.data.textures import paint
    from sfumato.images import fit, to_tensor

    return to_tensor(fit(open_photo("coffee"), side, side)), paint(43, side, side)


# --- the plain script --------------------------------------------------------------------------------


def plain(side: int, closures: int, threads: int) -> Work:
    """The published size, written down as tutorials do."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    convs: list[tuple[str, nn.Conv2d]] = []
    wide = 3
    for stage, (width, count) in enumerate(STAGES, 1):
        for k in range(1, count + 1):
            conv = nn.Conv2d(wide, width, 3, padding=1).requires_grad_(False)
            nn.init.kaiming_normal_(conv.weight)
            convs.append((f"{stage}_{k}", conv))
            wide = width

    def maps(x: Tensor) -> dict[str, Tensor]:
        found, stage = {}, "1"
        for name, conv in convs:
            if name[0] != stage:
                x, stage = max_pool2d(x, 2), name[0]
            x = conv2d(x, conv.weight, conv.bias, padding=1)
            found[name] = x
            x = x.relu()
        return found

    def gram(m: Tensor) -> Tensor:
        flat = m.flatten(2)[0]
        return flat @ flat.T / m.numel()

    content, style = ((x[None] + 1) / 2 for x in pictures(side))
    with torch.no_grad():
        goal = maps(content)[CONTENT]
        grams = {name: gram(m) for name, m in maps(style).items() if name in STYLE}

    def work() -> None:
        x = content.clone().requires_grad_()
        optimiser = torch.optim.LBFGS([x], max_iter=closures, max_eval=closures, tolerance_change=-1)

        def closure() -> Tensor:
            optimiser.zero_grad()
            found = maps(x)
            loss = mse_loss(found[CONTENT], goal)
            for name, wanted in grams.items():
                loss = loss + 1e6 * mse_loss(gram(found[name]), wanted)
            loss.backward()
            return loss

        optimiser.step(closure)

    return work


# --- ours --------------------------------------------------------------------------------------------


def ours(side: int, closures: int, threads: int, network: str) -> Work:
    """Gatys as the command line runs it."""
    from sfumato.apps import load
    from sfumato.core.request import Stylize
    from sfumato.nn.vgg import VGG19, random_vgg
    from sfumato.systems.style.gatys import Gatys
    from sfumato.systems.style.vgg import VGGNetConfig

    if network == "vgg19":
        config = Gatys.looking(VGGNetConfig(replace(VGG19, widths=tuple(w for w, _ in STAGES))))
        system = Gatys(config)
        system.network.load_state_dict(random_vgg(config.network).state_dict())
    else:
        found = load.upon("gatys")
        assert isinstance(found, Gatys)
        system = found
    load.ready(system, device="cpu")
    torch.set_num_threads(threads)
    content, style = pictures(side)
    request = Stylize(images=content[None], styles=(style,), steps=closures)

    def work() -> None:
        for _ in system.run(request):
            pass

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--closures", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--of", type=int, default=200)
    args = parser.parse_args()
    size = (args.side, args.closures, args.threads)
    sides = [
        Side("plain script, VGG-19", partial(plain, *size)),
        Side("ours, as it comes along", partial(ours, *size, "small")),
        Side("ours, VGG-19", partial(ours, *size, "vgg19")),
    ]
    race(sides, args.rounds, warm=0)
    print(table(sides))
    for side in sides:
        wall, cpu = (
            statistics.median(seconds) * args.of / args.closures for seconds in (side.wall, side.cpu)
        )
        print(
            f"{side.name}: {args.of} closures in {wall:.0f} s, "
            f"or {cpu / args.threads:.0f} s of {args.threads} free cores"
        )


if __name__ == "__main__":
    main()
