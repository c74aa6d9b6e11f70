"""Training goes on bit for bit after kills at random moments, at every fault point, and after signals."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sfumato.core.checkpoint import RunFolder
from sfumato.core.recipe import Recipe
from sfumato.core.system import System, TrainConfig
from sfumato.core.trainer import Report, Trainer
from tests.core.games import Game, Points, Regressor

CPU = torch.device("cpu")
SYSTEMS: dict[str, Callable[[], System]] = {"game": Game, "regressor": Regressor}
CONFIG = TrainConfig(
    steps=24, batch=8, accumulate=2, ema=0.9, seed=5, save_every=4, log_every=3, precision="bf16"
)
FAULTS = (
    "ckpt.before_write",
    "ckpt.after_model",
    "ckpt.before_manifest",
    "ckpt.before_rename",
    "ckpt.after_rename",
    "ckpt.before_prune",
    "model.before_rename",
)
FORK = multiprocessing.get_context("fork")


def trainer(name: str, path: Path, *, config: TrainConfig = CONFIG, data: Points | None = None) -> Trainer:
    return Trainer(SYSTEMS[name](), data or Points(), config, RunFolder(path), device=CPU, resume=True)


def finish(name: str, path: Path) -> Trainer:
    runner = trainer(name, path)
    for _ in runner.run():
        pass
    return runner


def everything(path: Path) -> dict[str, torch.Tensor]:
    """Weights, average and optimisers of the last checkpoint, and the shipped model."""
    last = path / "checkpoints" / f"{CONFIG.steps:08d}"
    found = {f"{f.stem}/{k}": t for f in last.glob("*.safetensors") for k, t in load_file(f).items()}
    return found | {f"shipped/{k}": t for k, t in RunFolder(path).read_model().items()}


def same(path: Path, reference: Path) -> None:
    found, expected = everything(path), everything(reference)
    assert found.keys() == expected.keys()
    differing = [k for k, t in expected.items() if not torch.equal(found[k], t)]
    assert not differing, differing
    assert not list(path.rglob("*.tmp"))
    curves = [
        [
            {k: v for k, v in r.items() if k not in ("images_per_second", "waiting")}
            for r in RunFolder(p).records()
        ]
        for p in (path, reference)
    ]
    assert curves[0] == curves[1], "the logged curve neither doubles nor differs"


@pytest.fixture(scope="module", params=SYSTEMS)
def uninterrupted(request, module_path) -> tuple[str, Path, float]:
    """Name, folder and seconds of a run that nothing disturbed."""
    path = Path(tempfile.mkdtemp(dir=module_path))
    RunFolder.create(path, Recipe(request.param, {}, CONFIG)).unlock()
    start = time.monotonic()
    finish(request.param, path)
    return request.param, path, time.monotonic() - start


def child(action: Callable[..., None], *args: object) -> multiprocessing.Process:
    process = FORK.Process(target=action, args=args)
    process.start()
    return process


@pytest.mark.parametrize("trial", range(6))
def test_killed_at_random_moments_it_ends_at_the_same_weights(uninterrupted, tmp_path, trial):
    name, reference, seconds = uninterrupted
    RunFolder.create(tmp_path, Recipe(name, {}, CONFIG)).unlock()
    dice = random.Random(f"{name}{trial}")
    for _ in range(dice.randint(1, 3)):
        process = child(finish, name, tmp_path)
        time.sleep(dice.uniform(0.02, seconds))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    finish(name, tmp_path)
    same(tmp_path, reference)


def strike(name: str, path: Path, fault: str, at: int) -> None:
    for report in trainer(name, path).run():
        if report.step == at:
            os.environ["SFUMATO_FAULT"] = fault


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("uninterrupted", ["regressor"], indirect=True)
def test_killed_at_each_point_of_a_save_it_ends_at_the_same_weights(uninterrupted, tmp_path, fault):
    name, reference, _ = uninterrupted
    RunFolder.create(tmp_path, Recipe(name, {}, CONFIG)).unlock()
    # Before the first save, between saves (the second time a fault strikes), and before the last.
    for at in (1, 9, 21):
        process = child(strike, name, tmp_path, fault, at)
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
        loaded = RunFolder(tmp_path).newest()
        expected = at // 4 * 4 + (
            4 if fault in ("ckpt.after_rename", "ckpt.before_prune", "model.before_rename") else 0
        )
        assert (loaded.step if loaded else 0) == expected
    finish(name, tmp_path)
    same(tmp_path, reference)


def obey(name: str, path: Path, reached) -> None:
    runner = trainer(name, path)
    signal.signal(signal.SIGTERM, lambda *_: runner.stop())
    for report in runner.run():
        if report.step == 6:
            reached.set()
            time.sleep(0.2)  # The consumer draws a preview, say, when the signal comes.
    os._exit(143 if runner.state == "stopped" else 0)


def test_a_signal_saves_and_ends_at_the_interrupted_step(uninterrupted, tmp_path):
    name, reference, _ = uninterrupted
    RunFolder.create(tmp_path, Recipe(name, {}, CONFIG)).unlock()
    reached = FORK.Event()
    process = child(obey, name, tmp_path, reached)
    assert reached.wait(30)
    os.kill(process.pid, signal.SIGTERM)
    process.join(10)
    assert process.exitcode == 143
    assert RunFolder(tmp_path).newest().step == 6
    finish(name, tmp_path)
    same(tmp_path, reference)


@pytest.mark.parametrize("at", [1, 4, 5, 23])
def test_stopped_anywhere_in_an_epoch_it_goes_on_with_the_same_data(uninterrupted, tmp_path, at):
    """37 examples in batches of 8: step 5 takes the last of the first epoch and the first of the second."""
    name, reference, _ = uninterrupted
    RunFolder.create(tmp_path, Recipe(name, {}, CONFIG)).unlock()
    runner = trainer(name, tmp_path)
    for report in runner.run():
        if report.step == at:
            runner.stop()
    assert runner.state == "stopped"
    assert finish(name, tmp_path).state == "finished"
    same(tmp_path, reference)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_continues(uninterrupted, tmp_path):
    name, reference, _ = uninterrupted
    RunFolder.create(tmp_path, Recipe(name, {}, CONFIG)).unlock()
    runner = trainer(name, tmp_path)
    for report in runner.run():
        if report.step == 14:
            runner.stop()
    file = tmp_path / "checkpoints" / "00000014" / "optim.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    reports = list(trainer(name, tmp_path).run())
    assert reports[0].notes == ("skipped checkpoint 00000014: optim.safetensors does not match its checksum",)
    assert reports[0].step == 13
    same(tmp_path, reference)


def test_a_finished_run_only_mends_its_model(uninterrupted, tmp_path):
    name, reference, _ = uninterrupted
    model = reference / "model.safetensors"
    before = model.read_bytes()
    model.unlink()
    runner = trainer(name, reference)
    assert list(runner.run()) == []
    assert (runner.state, runner.step) == ("finished", CONFIG.steps)
    assert model.read_bytes() == before


def test_what_makes_resuming_inexact_is_said(tmp_path):
    RunFolder.create(tmp_path, Recipe("game", {}, CONFIG)).unlock()
    runner = trainer("game", tmp_path)
    for report in runner.run():
        if report.step == 2:
            runner.stop()
    folder = RunFolder(tmp_path)
    folder.write_env(folder.read_env() | {"threads": 64})
    first: Report = next(trainer("game", tmp_path, data=Points(39)).run())
    assert first.notes == (
        f"continuing, not bit-exact: threads 64 -> {torch.get_num_threads()}",
        "continuing, not bit-exact: data points-37 -> points-39",
        "continuing, not bit-exact: examples 37 -> 39",
    )
