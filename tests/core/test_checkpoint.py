"""The run folder: what is saved is whole or not there, damage is found and named, one trainer at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from sfumato.core.checkpoint import RunFolder
from sfumato.core.recipe import Recipe
from sfumato.core.system import TrainConfig
from sfumato.errors import BusyError, DataError, StorageError, UsageError

RECIPE = Recipe(
    "game", {"kind": "GameConfig", "width": 5}, TrainConfig(steps=7, seed=3), "points", 5, "laptop"
)


def groups(step: int) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(step)
    return {
        "model": {"a.weight": torch.randn(7, 3, generator=generator), "a.count": torch.tensor(step)},
        "optim": {"net/momentum/0.weight": torch.randn(7, 3, generator=generator).bfloat16()},
    }


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    """A run with checkpoints at steps 10 and 20, and a model."""
    made = RunFolder.create(tmp_path / "run", RECIPE)
    for step in (10, 20):
        made.save(step, groups(step), {"skipped": step})
    made.write_model(groups(20)["model"])
    made.unlock()
    return made


def test_what_was_saved_comes_back(folder):
    again = RunFolder.open(folder.path)
    assert again.recipe == RECIPE
    newest = again.newest()
    assert newest is not None
    assert (newest.step, newest.state, newest.groups) == (20, {"skipped": 20}, ["model", "optim"])
    for group, tensors in groups(20).items():
        found = newest.tensors(group)
        assert found.keys() == tensors.keys()
        assert all(
            torch.equal(found[name], t) and found[name].dtype == t.dtype for name, t in tensors.items()
        )
    assert all(torch.equal(again.read_model()[n], t) for n, t in groups(20)["model"].items())
    assert all(finding.whole for finding in again.verify())
    assert len(again.verify()) == 4


def test_the_newest_two_stay_and_a_step_may_be_saved_twice(folder):
    folder.save(30, groups(30), {})
    folder.save(30, groups(31), {})
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == ["00000020", "00000030"]
    assert torch.equal(folder.newest().tensors("model")["a.weight"], groups(31)["model"]["a.weight"])


def test_tied_weights_are_saved_under_both_names(folder):
    weight = torch.randn(3, 2)
    folder.save(40, {"model": {"a": weight, "b": weight, "t": weight.T}}, {})
    found = folder.newest().tensors("model")
    assert torch.equal(found["a"], weight)
    assert torch.equal(found["b"], weight)
    assert torch.equal(found["t"], weight.T)


FILES = ("model.safetensors", "optim.safetensors", "state.json", "manifest.json")


@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_named_and_the_previous_checkpoint_taken(folder, name):
    file = folder.path / "checkpoints" / "00000020" / name
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x10
    cut = [whole[:kept] for kept in (0, 1, len(whole) // 2, len(whole) - 3)]
    for damaged in (*cut, bytes(flipped)):
        file.write_bytes(damaged)
        assert folder.newest().step == 10
        bad = [finding for finding in folder.verify() if not finding.whole]
        assert [Path(finding.path).name for finding in bad] == ["00000020"]
        assert name in bad[0].reason
    file.unlink()
    assert folder.newest().step == 10
    assert folder.tidy() == [f"skipped checkpoint 00000020: {name} is missing"]
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == ["00000010", "00000020.bad"]
    folder.save(20, groups(20), {})
    assert folder.newest().step == 20


def test_a_flipped_bit_in_the_model_is_refused(folder):
    file = folder.path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match="its tensors do not match their checksum"):
        folder.read_model()
    file.write_bytes(data[:-5])
    with pytest.raises(DataError, match="it is no whole safetensors file"):
        folder.read_model()
    file.unlink()
    with pytest.raises(DataError, match=r"it is missing\. Train on, or restore it from a copy"):
        folder.read_model()


def test_a_rename_cut_in_half_is_mended(folder):
    last = folder.checkpoints / "00000020"
    shutil.copytree(last, last.with_suffix(".tmp"))
    last.rename(last.with_suffix(".old"))
    assert folder.tidy() == []
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == ["00000010", "00000020"]
    shutil.copytree(last, last.with_suffix(".old"))
    assert folder.tidy() == []
    assert folder.newest().step == 20


def test_a_folder_is_created_once_and_opened_only_if_it_holds_a_run(folder, tmp_path):
    with pytest.raises(UsageError, match="already holds a run; resume it, or choose another folder"):
        RunFolder.create(folder.path, RECIPE)
    with pytest.raises(DataError, match=r"holds no run: it has no config\.json"):
        RunFolder.open(tmp_path / "nothing")
    config = json.loads((folder.path / "config.json").read_text())
    assert {
        "format",
        "sfumato",
        "system",
        "config",
        "base",
        "train",
        "data",
        "size",
        "preset",
    } == config.keys()
    (folder.path / "config.json").write_text(json.dumps(config | {"format": 99}))
    with pytest.raises(DataError, match="has format 99, this sfumato reads 1"):
        _ = folder.recipe
    (folder.path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json cannot be read"):
        _ = folder.recipe


def _contend(path: Path, gate, results) -> None:
    gate.wait()
    try:
        folder = RunFolder.create(path, RECIPE)
    except (BusyError, UsageError) as error:
        results.put((type(error).__name__, str(error)))
        return
    results.put(("won", str(os.getpid())))
    time.sleep(1.0)
    folder.unlock()


def test_of_eight_trainers_one_gets_the_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    gate, results = context.Event(), context.Queue()
    crowd = [context.Process(target=_contend, args=(tmp_path / "run", gate, results)) for _ in range(8)]
    for process in crowd:
        process.start()
    gate.set()
    said = [results.get(timeout=20) for _ in crowd]
    for process in crowd:
        process.join(20)
    winners = [pid for kind, pid in said if kind == "won"]
    assert len(winners) == 1, said
    busy = [text for kind, text in said if kind == "BusyError"]
    assert len(busy) == 7
    assert all("is in use by pid" in text for text in busy)


def _hold(path: Path, ready) -> None:
    RunFolder(path).lock()
    ready.set()
    time.sleep(60)


def test_a_kill_frees_the_folder_and_readers_need_no_lock(folder):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(folder.path, ready))
    holder.start()
    assert ready.wait(20)
    with pytest.raises(BusyError, match=f"is in use by pid {holder.pid}; wait for it") as caught:
        folder.lock()
    assert caught.value.exit_code == 75
    assert folder.newest().step == 20
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    folder.lock()
    folder.lock()
    folder.unlock()


def _full_disk(path: Path, limit: int, results) -> None:
    folder = RunFolder(path, disk_wait=0.4, disk_retry=0.2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    large = {"model": {"a": torch.zeros(50_000)}}
    said = []
    for action in (
        lambda: folder.save(30, large, {}),
        lambda: folder.write_model(large["model"]),
        lambda: folder.log({"text": "x" * 30_000}),
    ):
        start = time.monotonic()
        with pytest.raises(StorageError, match="Free some space; what was saved before is whole") as caught:
            action()
        said.append((str(caught.value), time.monotonic() - start))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    folder.save(40, groups(40), {})
    results.put(said)


def test_a_full_disk_is_waited_for_and_harms_nothing(folder):
    folder.log({"step": 10, "loss": 0.5})
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_full_disk, args=(folder.path, 20_000, results))
    child.start()
    said = results.get(timeout=30)
    child.join(20)
    assert ["model.safetensors" in text for text, _ in said] == [True, True, False]
    assert "log.jsonl" in said[2][0]
    assert all(0.2 <= seconds < 2 for _, seconds in said), "tried again, then gave up"
    assert folder.newest().step == 40, "and goes on once there is space"
    assert all(finding.whole for finding in folder.verify())
    assert folder.records() == [{"step": 10, "loss": 0.5}]
    assert not list(folder.path.rglob("*.tmp"))


def test_waiting_for_space_ends_when_training_is_stopped(folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    folder.disk_wait = 60.0
    folder.stopping = lambda: True
    with pytest.raises(StorageError, match=r"needs 0\.0 MB, and 0\.0 MB are free"):
        folder.save(30, groups(30), {})
    monkeypatch.undo()
    assert folder.newest().step == 20


def test_the_log_is_cut_at_the_resumed_step_and_survives_a_torn_line(folder):
    for step in (5, 10, 15, 20):
        folder.log({"step": step})
    with (folder.path / "log.jsonl").open("a") as file:
        file.write('{"step": 2')
    assert [r["step"] for r in folder.records()] == [5, 10, 15, 20]
    folder.truncate_log(10)
    folder.log({"step": 11})
    assert [r["step"] for r in folder.records()] == [5, 10, 11]


def test_a_broken_fingerprint_is_named(folder):
    assert folder.read_env() == {}
    folder.write_env({"threads": 1})
    assert folder.read_env() == {"threads": 1}
    (folder.path / "env.json").write_text("{")
    with pytest.raises(DataError, match=r"env\.json is no JSON.*Delete it"):
        folder.read_env()
