"""Two processes that share a joint batch train to the weights of one process that has it alone."""

from __future__ import annotations

import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor

from sfumato.core.checkpoint import RunFolder
from sfumato.core.recipe import Recipe
from sfumato.core.system import OptimConfig, TrainConfig
from sfumato.core.trainer import Trainer
from sfumato.data.dataset import Facts
from sfumato.nn.clip import ClipConfig
from sfumato.nn.clip_text import ClipTextConfig
from sfumato.nn.vit import VitConfig
from sfumato.systems.text.clip import CLIP, CLIPConfig
from tests.core.games import Game, GameConfig, Points, Regressor

CPU = torch.device("cpu")


class Captioned(Points):
    """Points with captions, some of which say the same of different pictures."""

    @property
    def facts(self) -> Facts:
        words = ("a", "point", *"bcdefg")
        return Facts("captioned", 1, 3, 5, frozenset({"image", "caption"}), words=words, fingerprint="c")

    def batch(self, indices: torch.Tensor) -> dict[str, Any]:
        captions = [f"a {'bcdefg'[i % 6]} point" for i in indices.tolist()]
        return {**super().batch(indices), "caption": captions}


def small_clip() -> CLIP:
    towers = ClipConfig(
        VitConfig(patch=1, width=8, layers=1, heads=2, hidden=12),
        ClipTextConfig(length=6, width=12, layers=1, heads=3, hidden=8),
        dimension=5,
    )
    torch.manual_seed(1)
    return CLIP(CLIP.fit(CLIPConfig(towers, optim=OptimConfig("muon", lr=1e-2, clip=0.5)), Captioned().facts))


SYSTEMS = {
    "clip": small_clip,
    "game": lambda: Game(GameConfig(optim=OptimConfig(lr=1e-2, warmup=3, weight_decay=0.1, clip=0.1))),
    "regressor": lambda: Regressor(
        GameConfig(noisy=False, optim=OptimConfig("muon", lr=2e-2, weight_decay=0.1, clip=0.1))
    ),
}


def train(name: str, path: Path, steps: int, accumulate: int, *, stop_at: int = 0) -> None:
    accumulate = 1 if name == "clip" else accumulate  # pairs are told apart within what is seen at once
    config = TrainConfig(
        steps=steps, batch=12, accumulate=accumulate, save_every=4, log_every=2, precision="fp32", ema=0.9
    )
    folder = RunFolder(path)
    data = Captioned() if name == "clip" else Points()
    trainer = Trainer(SYSTEMS[name](), data, config, folder, device=CPU, resume=True)
    for report in trainer.run():
        # Every process must know: what follows a checkpoint, such as previews, all do or none.
        assert report.saved == (folder.place(report.step) if report.step % 4 == 0 else None)
        if report.step == stop_at:
            trainer.stop()
    if trainer.ranks.size > 1:
        optim = trainer.optimisers.values()
        shares = [t for o in optim for t in o.state_dict().values() if isinstance(t, DTensor)]
        assert shares, "optimisers hold shares"
        assert all(t.to_local().numel() < t.numel() for t in shares if t.shape[0] > 1)


def worker(rank: int, port: int, name: str, path: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    train(name, path, 8, 2)
    dist.destroy_process_group()


def two_processes(name: str, path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=worker, args=(rank, port, name, path)) for rank in range(2)]
    for process in workers:
        process.start()
    for process in workers:
        process.join(120)
    assert [process.exitcode for process in workers] == [0, 0]


def tensors(path: Path) -> dict[str, torch.Tensor]:
    last = path / "checkpoints" / "00000008"
    found = {f"{f.stem}/{k}": t for f in last.glob("*.safetensors") for k, t in load_file(f).items()}
    found |= {f"shipped/{k}": t for k, t in load_file(path / "model.safetensors").items()}
    # Softmax does not see the bias of keys: its gradient is rounding, which AdamW makes as large as any.
    return {name: tensor for name, tensor in found.items() if not name.endswith("k_proj.bias")}


@pytest.mark.parametrize("name", SYSTEMS)
def test_two_processes_equal_one(tmp_path, name):
    one, two, half = tmp_path / "one", tmp_path / "two", tmp_path / "half"
    for path in (one, two, half):
        RunFolder.create(path, Recipe(name, {})).unlock()
    train(name, one, 8, 1)
    two_processes(name, two)
    expected, found = tensors(one), tensors(two)
    assert expected.keys() == found.keys()
    near = 1e-5 if name == "clip" else 1e-6  # AdamW divides small gradients by themselves
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=2e-4, atol=near, msg=lambda m, k=key: f"{k}: {m}")
    logs = [[r["step"] for r in RunFolder(path).records()] for path in (one, two)]
    assert logs[0] == logs[1] == [2, 4, 6, 8]
    if name == "clip":
        return  # what follows is the trainer's, and costs seconds

    train(name, half, 8, 3, stop_at=5)
    two_processes(name, half)
    assert RunFolder(half).read_env()["processes"] == 2
    for key, tensor in tensors(half).items():
        torch.testing.assert_close(
            tensor, expected[key], rtol=2e-4, atol=near, msg=lambda m, k=key: f"{k}: {m}"
        )
