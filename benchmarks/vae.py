"""Our VAE beside pythae's on Fashion-MNIST: same network, data, batch and steps, judged by the same bound.

    python -m benchmarks.vae --seeds 0 1 2 --out out/vae [--arms ours pythae autoencoder]

pythae 0.1.2 stays outside of the environment: ``pip install --no-deps --target DIR pythae==0.1.2`` (what
else it imports is there already, or ``cloudpickle imageio pydantic``), then ``PYTHONPATH=DIR``. It trains
with its own trainer and a constant learning rate of 1e-3; ours falls from 2e-3, and "pythae-falling" lets its
own scheduler do likewise. Its weights are then copied into our network, so that one piece of code judges all;
its own estimate of the likelihood is printed beside. The autoencoder of the same size draws from a normal
distribution fitted to its latents: that is what a VAE's pictures must beat. What is finished is kept in --out
and not run again.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

import sfumato
from sfumato.core.request import Generate, Images
from sfumato.core.system import System
from sfumato.data.fashion import Fashion
from sfumato.metrics.classifier import fashion_classifier
from sfumato.metrics.features import Oracle
from sfumato.metrics.frechet import Moments, frechet_distance
from sfumato.metrics.precision_recall import precision_recall
from sfumato.systems.autoencoders.vae import VAE

Arm = Literal["ours", "pythae", "pythae-falling", "autoencoder"]
PRESET = VAE.presets["fashion"]
RATE = 1e-3
"""Adam's step in PyTorch's example of a VAE; pythae's own default, 1e-4, is far behind after so few steps."""
FIRST_SEED = 1_000_000


@dataclass(frozen=True)
class Args:
    """What is compared, and how long one looks."""

    out: Path
    seeds: tuple[int, ...] = (0, 1, 2)
    arms: tuple[Arm, ...] = ("ours", "pythae", "autoencoder")
    pictures: int = 200
    """The first of the test set, for the bound of many samples."""
    samples: int = 5000
    made: int = 5000
    """Pictures drawn for the distance, against as many of the training set."""
    epochs: int = 5
    """Over which all arms train; the preset itself has more."""


def main(args: Args) -> None:
    torch.set_num_threads(1)
    os.environ["TQDM_DISABLE"] = "1"
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for arm in args.arms:
            path = kept(args, arm, seed)
            if not path.exists():
                found = measured(args, arm, seed)
                path.write_text(json.dumps(found))
                print(f"{arm} seed {seed}: {found}", flush=True)
    print(report(args))


def measured(args: Args, arm: Arm, seed: int) -> dict[str, float]:
    """Train, then judge; seconds are of the one thread's CPU time, training alone."""
    began = time.process_time()
    system, extra = TRAIN[arm](args, seed)
    found = {"seconds": time.process_time() - began}
    system.eval()
    if isinstance(system, VAE):
        fresh = Fashion("test").batch(torch.arange(10_000))["image"]
        found["elbo"] = system.bounds(fresh, 10, seed=FIRST_SEED).elbo.mean().item()
        many = system.bounds(fresh[: args.pictures], args.samples, seed=FIRST_SEED)
        found["elbo of the part"], found["iwae"] = many.elbo.mean().item(), many.iwae.mean().item()
        found |= extra(fresh)
    *_, answer = system.run(Generate(count=args.made, seed=FIRST_SEED))
    assert isinstance(answer, Images)
    return found | distances(answer.pixels)


def distances(made: Tensor) -> dict[str, float]:
    """From training pictures, as the fashion network sees them; and what real test pictures get."""
    space = Oracle(fashion_classifier())
    order = torch.randperm(60_000, generator=torch.Generator().manual_seed(0))
    real = space.features(Fashion().batch(order[: len(made)])["image"])
    held = space.features(Fashion("test").batch(torch.arange(len(made)))["image"])
    ours = space.features(made)
    near = precision_recall(real, ours)
    moments = Moments.of(real)
    return {
        "distance": frechet_distance(moments, Moments.of(ours)).value,
        "distance of test pictures": frechet_distance(moments, Moments.of(held)).value,
        "precision": near.precision,
        "recall": near.recall,
    }


def steps(args: Args) -> int:
    """As many as pythae's loader takes, which ends every epoch with a smaller batch."""
    return args.epochs * -(-60_000 // PRESET.train.batch)


def nothing(_: Tensor) -> dict[str, float]:
    return {}


Trained = tuple[System[Any], Callable[[Tensor], dict[str, float]]]


def ours(args: Args, seed: int, name: Literal["vae", "ae"] = "vae") -> Trained:
    folder = args.out / f"{name}-{seed}"
    sfumato.train(name, "fashion", out=folder, steps=steps(args), seed=seed, quiet=True)
    return sfumato.load(folder, precision="fp32", device="cpu"), nothing


def autoencoder(args: Args, seed: int) -> Trained:
    return ours(args, seed, "ae")


def theirs(args: Args, seed: int, *, falling: bool = False) -> Trained:
    """pythae's model, moved by pythae's trainer, then in our network."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig as PythaeConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    network = PRESET.config.network
    pixels = (Fashion().batch(torch.arange(60_000))["image"] + 1) / 2
    torch.manual_seed(seed)
    config = PythaeConfig(input_dim=(1, 28, 28), latent_dim=network.latent, reconstruction_loss="bce")
    model = PythaeVAE(config)
    fall = {"start_factor": 1.0, "end_factor": 0.02, "total_iters": args.epochs - 1}
    settings = BaseTrainerConfig(
        output_dir=str(args.out / "pythae"),
        num_epochs=args.epochs,
        per_device_train_batch_size=PRESET.train.batch,
        learning_rate=PRESET.config.optim.lr if falling else RATE,
        scheduler_cls="LinearLR" if falling else None,
        scheduler_params=fall if falling else None,
        no_cuda=True,
        seed=seed,
    )
    BaseTrainer(model, BaseDataset(pixels, torch.zeros(60_000)), training_config=settings).train()
    theirs = model.eval().state_dict()
    system = VAE(VAE.fit(PRESET.config, Fashion("test").facts))
    renamed = {
        "encoder.layers.1": ("encoder.layers.0.0",),
        "encoder.out": ("encoder.embedding", "encoder.log_var"),
        "decoder.layers.0": ("decoder.layers.0.0",),
        "decoder.layers.2": ("decoder.layers.1.0",),
    }
    weights = {
        f"{name}.{part}": torch.cat([theirs[f"{source}.{part}"] for source in sources])
        for name, sources in renamed.items()
        for part in ("weight", "bias")
    }
    first = weights["encoder.layers.1.weight"]  # It knows pixels from 0 to 1; ours are from -1 to 1.
    weights["encoder.layers.1.bias"] = weights["encoder.layers.1.bias"] + first.sum(1) / 2
    weights["encoder.layers.1.weight"] = first / 2
    system.load_state_dict(weights)

    @torch.no_grad()
    def beside(fresh: Tensor) -> dict[str, float]:
        """pythae's estimate of log p(x) of a few pictures, and ours."""
        few = fresh[:10]
        estimate = model.get_nll((few + 1) / 2, n_samples=2000)
        return {"its own": estimate, "ours of these": system.bounds(few, 2000).iwae.mean().item()}

    return system, beside


def theirs_falling(args: Args, seed: int) -> Trained:
    return theirs(args, seed, falling=True)


TRAIN: dict[Arm, Callable[[Args, int], Trained]] = {
    "ours": ours,
    "pythae": theirs,
    "pythae-falling": theirs_falling,
    "autoencoder": autoencoder,
}


def kept(args: Args, arm: Arm, seed: int) -> Path:
    return args.out / f"{arm}-{seed}-{args.epochs}-{args.pictures}-{args.samples}-{args.made}.json"


def report(args: Args) -> str:
    """Mean over seeds, and the standard deviation where there are several."""
    lines = [
        f"{args.pictures} test pictures x {args.samples} samples; {args.made} pictures made; nats, mean (sd)"
    ]
    for arm in args.arms:
        runs = [json.loads(kept(args, arm, seed).read_text()) for seed in args.seeds]
        for key in runs[0]:
            values = [run[key] for run in runs]
            spread = f" ({statistics.stdev(values):.3f})" if len(values) > 1 else ""
            lines.append(f"{arm:16}{key:28}{statistics.mean(values):10.3f}{spread}")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Args))
