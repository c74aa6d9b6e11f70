"""Training steps of StyleGAN 2 at one size: ours as our trainer, theirs as ``stylegan2-pytorch`` 1.9.0 does.

    pip install --no-deps --target PEER stylegan2-pytorch==1.9.0 kornia kornia_rs einops
    PYTHONPATH=PEER python -m benchmarks.stylegan [--rounds N]

Generators have 64, 64, 64 and 32 feature maps from 4 x 4 to 32 x 32; theirs convolves with grouped weights.
Their critic has 64 maps everywhere and a third convolution a block, ours 32 at 32 x 32: the side "as wide"
has 64 there too, and in the generator, more than theirs. Sixteen steps are one round, so that every lazy
penalty counts as often as it comes: theirs is a gradient penalty every 4 steps, ours R1 every 16 and path
lengths every 8. Both keep a moving average; theirs does from step 20,000 on, and here.

Their package asks for a CUDA device, torchvision and tools for logging when it is imported. Of these it needs
none for its networks and losses, so empty modules stand in for them, and the device is said to be there.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import tyro

from benchmarks.race import Side, Work, race, table

SIZE, LATENT, DEPTH, STEPS = 32, 64, 4, 16
ABSENT = ("torchvision", "torchvision.transforms", "aim", "fire", "retry", "vector_quantize_pytorch")


@dataclass(frozen=True)
class Args:
    """How much is timed."""

    rounds: int = 5
    batch: int = 16
    threads: int = 1


def main(args: Args) -> None:
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    sides = [
        Side("stylegan2-pytorch", partial(theirs, args)),
        Side("sfumato", partial(ours, args, 1024, "auto")),
        Side("sfumato fp32", partial(ours, args, 1024, "fp32")),
        Side("sfumato as wide", partial(ours, args, 2048, "auto")),
        Side("sfumato as wide fp32", partial(ours, args, 2048, "fp32")),
    ]
    race(sides, args.rounds)
    print(f"{STEPS} steps, batch {args.batch} x 3 x {SIZE} x {SIZE}, {args.threads} thread(s)")
    print(table(sides))


def pictures(batch: int) -> Any:
    """The real ones, the same for all."""
    import torch

    from sfumato.data.faces import Faces

    return Faces("train", SIZE).batch(torch.arange(batch))["image"]


def ours(args: Args, base: int, precision: str) -> Work:
    """The laptop's preset, by our own trainer without a run folder."""
    import torch

    import sfumato  # noqa: F401
    from sfumato.core.trainer import Trainer
    from sfumato.data.dataset import Subset
    from sfumato.data.faces import Faces
    from sfumato.systems.gans.stylegan import StyleGAN

    torch.set_num_threads(args.threads)
    preset, data = StyleGAN.presets["laptop"], Subset(Faces("train", SIZE), range(args.batch))
    config = StyleGAN.fit(preset.config, data.facts)
    config = replace(config, network=replace(config.network, z=LATENT, w=LATENT, mapping=DEPTH, base=base))
    torch.manual_seed(0)
    rule = replace(preset.train, steps=10**6, batch=args.batch, precision=precision, log_every=10**9)
    reports = Trainer(StyleGAN(config), data, rule, device=torch.device("cpu")).run()

    def work() -> float:
        for _ in range(STEPS):
            report = next(reports)
        return report.values()["critic/game"]

    return work


def theirs(args: Args) -> Work:
    """Their networks, optimisers and losses, and their trainer's loop without a device, files and logs."""
    import torch

    torch.set_num_threads(args.threads)
    lib = imported()
    lib.StyleGAN2.cuda = torch.Tensor.cuda = lambda self, _: self  # type: ignore[assignment]
    torch.manual_seed(0)
    lib.Generator = partial(lib.Generator, fmap_max=64)  # which theirs forgets for the average
    gan = lib.StyleGAN2(SIZE, LATENT, fmap_max=64, style_depth=DEPTH, network_capacity=16)
    real, layers, steps = pictures(args.batch), gan.G.num_layers, iter(range(10**9))

    def fakes() -> Any:
        mixed = lib.random() < 0.9
        style = (lib.mixed_list if mixed else lib.noise_list)(args.batch, layers, LATENT, device="cpu")
        w = lib.styles_def_to_tensor(lib.latent_to_w(gan.S, style))
        return gan.G(w, lib.image_noise(args.batch, SIZE, device="cpu"))

    def work() -> float:
        for step in (next(steps) for _ in range(STEPS)):
            lazy = step % 4 == 0
            gan.D_opt.zero_grad()
            fake, image = fakes().detach().requires_grad_(lazy), real.clone().requires_grad_(lazy)
            (lie, _), (told, _) = gan.D(fake), gan.D(image)
            loss = lib.hinge_loss(lie, told)
            if lazy:
                loss = loss + lib.gradient_penalty(image, told) + lib.gradient_penalty(fake, lie)
            loss.backward()
            gan.D_opt.step()
            gan.G_opt.zero_grad()
            lib.gen_hinge_loss(gan.D(fakes())[0], None).backward()
            gan.G_opt.step()
            if step % 10 == 0:
                gan.EMA()
        return float(loss.detach())

    return work


def imported() -> Any:
    """Their module, with empty ones where it names what it does not need here."""
    import torch

    for name in ABSENT:
        sys.modules[name] = _Empty(name)
    there, torch.cuda.is_available = torch.cuda.is_available, lambda: True
    try:
        from stylegan2_pytorch import stylegan2_pytorch as lib
    finally:
        torch.cuda.is_available = there
    return lib


class _Empty(types.ModuleType):
    """Any name in it is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})

    def __iter__(self) -> Iterator[Any]:
        return iter(())


if __name__ == "__main__":
    main(tyro.cli(Args))
