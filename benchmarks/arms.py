"""One recipe for words to pictures, and arms that change one factor of it each; see text_to_image.py."""

from __future__ import annotations

import hashlib
import json
import math
import os
import statistics
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sfumato import load
from sfumato.apps.load import folder_of
from sfumato.core.durable import sha256
from sfumato.core.ema import MovingAverage
from sfumato.core.loader import Batches
from sfumato.core.optim import optimiser_of
from sfumato.core.process import Process
from sfumato.core.request import Generate
from sfumato.data.dataset import Encoded
from sfumato.data.shapes import Shapes
from sfumato.device import Precision, autocast, dtype_of
from sfumato.metrics.oracle import CaptionReport, caption_accuracy
from sfumato.nn.autoencoder import Autoencoder
from sfumato.nn.condition import Condition
from sfumato.nn.transformer import DiTConfig
from sfumato.nn.unet import UNetConfig
from sfumato.systems.autoencoders.kl import KL
from sfumato.systems.diffusion.ldm import LDM

CPU = torch.device("cpu")
PRESET = LDM.presets["shapes"]
UNET = UNetConfig(widths=(64, 128), blocks=(2,), attend=(True,), heads=(4,), depth=(1,))
EDM_MEAN = -1.2 + math.log(2)
"""Karras et al. 2022, table 1, for data of standard deviation 1 in place of the paper's 0.5."""


@dataclass(frozen=True)
class Arm:
    """What a run differs in."""

    what: str
    network: Literal["dit", "unet", "diffusers"] = "dit"
    optim: Literal["muon", "adamw"] = "muon"
    lr: float = PRESET.config.optim.lr
    mean: float = 1.2
    """Of ln sigma in training, from beginning to end: steps take arms different times, so none settles."""
    rotary: bool = True
    """Whether the text tower sees how far words are apart."""

    @property
    def precision(self) -> Precision:
        return "fp32" if self.network == "diffusers" else "auto"


ARMS = {
    "ours": Arm("DiT, Muon"),
    "plain-words": Arm("DiT, Muon, words with learned places alone", rotary=False),
    "dit-adamw": Arm("DiT, AdamW", optim="adamw", lr=1e-3),
    "unet-muon": Arm("our U-Net, Muon", "unet"),
    "unet-adamw": Arm("our U-Net, AdamW", "unet", "adamw", 1e-3),
    "diffusers": Arm("diffusers' U-Net, AdamW, as it is (fp32)", "diffusers", "adamw", 1e-3),
    "low-noise": Arm("DiT, Muon, EDM's lower noise", mean=EDM_MEAN),
}


@dataclass(frozen=True)
class Args:
    """What is run, how long, and where its results are kept."""

    minutes: float = 20.0
    """Of one core, for each run."""
    seeds: int = 3
    arms: tuple[str, ...] = tuple(ARMS)
    out: Path = Path("out/text-to-image")
    first_stage: str = "shapes"
    """A model or run folder that holds an autoencoder of 64 x 64 pictures."""
    lr: float = 0.0
    """Learning rate for all arms; 0 means each arm's own."""
    marks: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 1.0)
    """Shares of the time at which pictures are judged."""
    captions: int = 256
    examples: int = 50_000
    jobs: int = 2
    """Runs at once, on one core each."""


class Theirs(nn.Module):
    """Diffusers' text-to-image U-Net of our U-Net's shape, called as our denoiser calls networks."""

    def __init__(self, channels: int, text: int):
        super().__init__()
        from diffusers import UNet2DConditionModel

        self.unet = UNet2DConditionModel(
            in_channels=channels,
            out_channels=channels,
            block_out_channels=UNET.widths,
            layers_per_block=UNET.blocks[0],
            down_block_types=("CrossAttnDownBlock2D",) * len(UNET.widths),
            up_block_types=("CrossAttnUpBlock2D",) * len(UNET.widths),
            attention_head_dim=UNET.heads[0],
            norm_num_groups=UNET.groups,
            cross_attention_dim=text,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=text,
        )
        self.ends = (self.unet.conv_in, self.unet.conv_out)

    def forward(self, x: Tensor, clock: Tensor, cond: Condition) -> Tensor:
        return self.unet(x, clock, cond.tokens, class_labels=cond.vector).sample


def learn(args: Args, name: str, seed: int) -> float:
    """One run; gives the share of captions of which all was right at the end."""
    arm = ARMS[name]
    if arm.network == "diffusers":
        os.environ["SFUMATO_MALLOC"] = "0"  # as it is: the C allocator is part of our side
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    system, data = built(args, arm), training_data(args)
    tensors = load_file(latents(args))
    system.latent_mean.copy_(tensors.pop("latent_mean"))
    system.latent_std.copy_(tensors.pop("latent_std"))
    size, player = PRESET.train.batch, system.players()["denoiser"]
    batches = Batches(Encoded(data, tensors, {}), batch=size, seed=seed, rows=[range(size)], device=CPU)
    moving, average = player.parameters(), MovingAverage(system, PRESET.train.ema)
    optimiser = optimiser_of(player, 1, dtype_of(arm.precision, CPU))
    spent, step, losses, budget = 0.0, 0, deque[float](maxlen=200), 60 * args.minutes
    aside, share = path(args, name, seed).with_suffix(".part"), 0.0
    aside.unlink(missing_ok=True)
    for mark in args.marks:
        while spent < mark * budget:
            begun = time.process_time()
            with autocast(arm.precision, CPU):
                loss = next(system.losses(batches.at(step).batches[0], step)).value
            loss.backward(inputs=moving)
            torch.nn.utils.clip_grad_norm_(moving, player.optim.clip)
            optimiser.step(step, min(1.0, (1 - spent / budget) / PRESET.config.optim.decay))
            optimiser.zero_grad()
            average.update()
            losses.append(loss.item())
            step, spent = step + 1, spent + time.process_time() - begun
        judged = time.process_time()
        with average.swapped():
            found = judge(args, system, seed, arm.precision)
        share = found.all.value
        line = {
            "arm": name, "seed": seed, "mark": mark, "seconds": spent, "step": step,
            "examples_per_second": step * size / spent, "loss": statistics.fmean(losses),
            "all": share, "objects": found.objects.value,
            "attributes": {k: v.value for k, v in found.attributes.items() if v.n},
            "judging": time.process_time() - judged,
            "parameters": sum(p.numel() for p in moving),
            "config": asdict(arm),
        }  # fmt: skip
        with aside.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    aside.replace(path(args, name, seed))
    return share


def judge(args: Args, system: LDM, seed: int, precision: Precision) -> CaptionReport:
    """Full captions of one and two objects that training has not seen, the same for all arms."""
    fresh = Shapes("test", 64, length=args.captions, objects=(1, 2), levels={"full": 1.0})
    captions = fresh.captions(fresh.scenes(torch.arange(args.captions)))
    request = Generate(
        prompt=tuple(captions), count=args.captions, seed=10_000 * (seed + 1), steps=20, guidance=3.0
    )
    with autocast(precision, CPU):
        *_, answer = system.run(request)
    return caption_accuracy(answer.pixels, captions)


def built(args: Args, arm: Arm) -> LDM:
    """An untrained system of this arm around the first stage."""
    stage = first_stage(args)
    optim = replace(PRESET.config.optim, kind=arm.optim, lr=args.lr or arm.lr, decay=0.0)
    process = Process(replace(PRESET.config.process.schedule, mean=arm.mean))
    network: DiTConfig | UNetConfig = PRESET.config.network if arm.network == "dit" else UNET
    text = replace(PRESET.config.text, rotary=arm.rotary)
    changed = {"first_stage": stage.config, "optim": optim, "process": process, "settling": 0}
    config = replace(PRESET.config, network=network, text=text, **changed)
    system = LDM(LDM.fit(config, training_data(args).facts))
    system.first_stage.load_state_dict(stage.state_dict())
    if arm.network == "diffusers":
        system.denoiser.network = Theirs(stage.config.latent_channels, config.text.width)
    return system.eval()


def first_stage(args: Args) -> Autoencoder:
    system = load(args.first_stage, precision="fp32")
    return system.network if isinstance(system, KL) else system.first_stage


def training_data(args: Args) -> Shapes:
    return Shapes("train", 64, length=args.examples)


def encode(args: Args) -> None:
    """Latents and tokens of all examples, once for all runs."""
    if latents(args).exists():
        return
    system = built(args, ARMS["ours"])
    encoded = system.prepare(training_data(args))
    kept = {"latent_mean": system.latent_mean, "latent_std": system.latent_std}
    aside = latents(args).with_suffix(".part")
    save_file({**encoded.encoded, **kept}, aside)
    aside.replace(latents(args))


def latents(args: Args) -> Path:
    stage = sha256(folder_of(args.first_stage) / "model.safetensors")
    return args.out / f"latents-{stage[:8]}-{training_data(args).facts.fingerprint[:8]}.safetensors"


def path(args: Args, name: str, seed: int) -> Path:
    """Where a run is kept; what changes its result is in the name."""
    key = repr((args.minutes, args.lr, args.marks, args.captions, latents(args).name, ARMS[name], PRESET))
    return args.out / f"{name}-{seed}-{hashlib.sha256(key.encode()).hexdigest()[:8]}.jsonl"


def finished(args: Args, name: str, seed: int) -> bool:
    return path(args, name, seed).exists()
