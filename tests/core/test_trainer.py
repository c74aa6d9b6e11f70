"""The trainer: who moves when, accumulation, what is skipped and reported, and how divergence ends."""

from __future__ import annotations

import json
import multiprocessing
import re
import resource
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.core.checkpoint import RunFolder
from sfumato.core.loader import Batches
from sfumato.core.optim import optimiser_of
from sfumato.core.parallel import Ranks
from sfumato.core.recipe import Recipe
from sfumato.core.rng import Rng
from sfumato.core.system import Batch, Loss, OptimConfig, Player, TrainConfig
from sfumato.core.trainer import Report, Trainer
from sfumato.errors import BusyError, DataError, DivergedError, StorageError, UsageError
from tests.core.games import Game, GameConfig, Points, Regressor

CPU = torch.device("cpu")
CONFIG = TrainConfig(steps=6, batch=12, ema=0.0, precision="fp32", log_every=2, save_every=2)


def train(
    system, config: TrainConfig = CONFIG, data: Any = None, folder: RunFolder | None = None, **options: bool
):
    trainer = Trainer(system, data or Points(), config, folder, device=CPU, **options)
    return trainer, list(trainer.run())


def same_weights(one: nn.Module, two: nn.Module, **tolerance: float) -> None:
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, **tolerance)


def test_it_does_what_the_loop_by_hand_does():
    trainer, _ = train(Game())
    game = Game()
    players = game.players()
    optimisers = {name: optimiser_of(player, 6) for name, player in players.items()}
    batches = Batches(Points(), batch=12, seed=0, rows=[range(12)], device=CPU)
    for step in range(6):
        for loss in game.losses(batches.at(step).batches[0], step):
            game.zero_grad()
            loss.value.backward()
            mine = players[loss.player].parameters()
            torch.nn.utils.clip_grad_norm_(mine, players[loss.player].optim.clip)
            optimisers[loss.player].step(step)
    same_weights(trainer.system, game, rtol=0, atol=0)


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("make", [Game, lambda: Regressor(GameConfig(noisy=False))])
def test_accumulated_parts_equal_the_whole_batch(parts, make):
    whole, _ = train(make())
    cut, _ = train(make(), replace(CONFIG, accumulate=parts))
    same_weights(whole.system, cut.system, rtol=2e-4, atol=1e-6)


def test_each_move_moves_its_player_alone():
    trainer = Trainer(Game(), Points(), CONFIG, device=CPU)
    before = [p.clone() for p in trainer.system.maker.parameters()]

    class Watching(Game):
        def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
            for loss in super().losses(batch, step):
                yield loss
                still = all(torch.equal(a, b) for a, b in zip(before, self.maker.parameters(), strict=True))
                assert still == (loss.player == "critic" and step == 0)
                assert all(p.grad is None for p in self.parameters())

    train(Watching(), replace(CONFIG, steps=1))


def test_a_report_tells_step_speed_logs_and_saves(tmp_path):
    folder = RunFolder.create(tmp_path, Recipe("game", {}, CONFIG))
    trainer, reports = train(Game(), folder=folder)
    assert [r.step for r in reports] == [1, 2, 3, 4, 5, 6]
    assert [r.saved.name if r.saved else None for r in reports] == [
        None,
        "00000002",
        None,
        "00000004",
        None,
        "00000006",
    ]
    last = reports[-1]
    assert set(last.values()) == {"critic/game", "critic/norm", "maker/game", "maker/size", "maker/norm"}
    assert last.images_per_second > 0
    assert 0 <= last.waiting <= 1
    records = folder.records()
    assert [r["step"] for r in records] == [2, 4, 6]
    assert records[-1]["maker/game"] == pytest.approx(last.values()["maker/game"])
    assert trainer.state == "finished"
    assert not trainer.system.training


def test_the_shipped_model_is_the_average(tmp_path):
    config = replace(CONFIG, ema=0.9)
    folder = RunFolder.create(tmp_path, Recipe("regressor", {}, config))
    trainer, _ = train(Regressor(), config, folder=folder)
    model = folder.read_model()
    own = {n: t.clone() for n, t in trainer.system.state_dict().items()}
    assert model.keys() == own.keys()
    with trainer.averaged():
        assert all(torch.equal(model[n], t) for n, t in trainer.system.state_dict().items())
    assert not torch.equal(model["head.weight"], own["head.weight"])
    assert torch.equal(model["frozen.weight"], own["frozen.weight"])


def test_modules_without_a_player_stay_in_evaluation_mode():
    modes: list[tuple[bool, bool]] = []

    class Watching(Regressor):
        def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
            modes.append((self.body.training, self.frozen.training))
            yield from super().losses(batch, step)
            self.eval()  # As a preview between steps would.

    train(Watching())
    assert modes == [(True, False)] * 6


def test_the_prepared_dataset_is_what_is_learned_from():
    class Preparing(Game):
        def prepare(self, data: Any) -> Any:
            return Points(7)

    prepared, _ = train(Preparing())
    direct, _ = train(Game(), data=Points(7))
    same_weights(prepared.system, direct.system, rtol=0, atol=0)


def test_a_stop_while_data_is_prepared_ends_at_once(tmp_path):
    class Slow(Game):
        def prepare(self, data: Any) -> Any:
            for row in range(5):
                data.batch(torch.tensor([row]))
                trainer.stop()
            raise AssertionError("should not get here")

    trainer = Trainer(
        Slow(), Points(), CONFIG, RunFolder.create(tmp_path, Recipe("slow", {}, CONFIG)), device=CPU
    )
    assert list(trainer.run()) == []
    assert trainer.state == "stopped"
    assert RunFolder(tmp_path).newest() is None


def test_batches_depend_on_step_and_row_alone():
    whole = Batches(Points(), batch=12, seed=3, rows=[range(12)], device=CPU).at(5)
    for rank in range(2):
        rows = Ranks(rank, 2).rows(12, 3)
        part = Batches(Points(), batch=12, seed=3, rows=rows, device=CPU).at(5)
        share = slice(rank * 6, rank * 6 + 6)
        assert torch.equal(part.indices, whole.indices[share])
        assert torch.equal(torch.cat([b["image"] for b in part.batches]), whole.batches[0]["image"][share])
        assert [s for b in part.batches for s in b.rng.seeds] == Rng.training(3, 5, range(12)).seeds[share]


def test_a_batch_that_cannot_be_cut_is_refused():
    with pytest.raises(UsageError, match=r"batch of 10 cannot be cut into 2 processes x 3 .* multiple of 6"):
        Ranks(0, 2).rows(10, 3)


class Poisoned(Regressor):
    """A regressor whose loss, gradient or hidden layer turns non-finite at given steps."""

    def __init__(self, where: str, steps: range):
        super().__init__()
        self.where, self.steps = where, steps

    def losses(self, batch: Batch, step: int) -> Iterator[Loss]:
        for loss in super().losses(batch, step):
            bad = step in self.steps
            value = loss.value
            if bad and self.where == "loss":
                value = value + torch.inf
            if bad and self.where == "gradient":
                value = value + (self.head.bias.sum() * 0).sqrt()
            if bad and self.where == "module":
                value = value + self.table(torch.tensor([0])).mul(torch.nan).mean()
            yield Loss(loss.player, value, loss.parts)


@pytest.mark.parametrize("where", ["loss", "gradient", "module"])
def test_one_bad_step_is_skipped_and_counted(tmp_path, where):
    config = replace(CONFIG, ema=0.9, steps=8)
    folder = RunFolder.create(tmp_path, Recipe("poisoned", {}, config))
    trainer, reports = train(Poisoned(where, range(3, 5)), config, folder=folder)
    assert [r.skipped for r in reports] == [0, 0, 0, 1, 2, 2, 2, 2]
    assert trainer.state == "finished"
    for file in tmp_path.rglob("*.safetensors"):
        assert all(t.isfinite().all() for t in trainer.folder.read_model().values()), file
    text = (tmp_path / "log.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text


def test_a_bad_step_leaves_no_trace_in_buffers():
    data = Points(12, poisoned=frozenset({4}))
    trainer, reports = train(Regressor(), replace(CONFIG, steps=2), data=data)
    assert reports[-1].skipped == 2
    assert all(t.isfinite().all() for t in trainer.system.state_dict().values())
    assert trainer.system.body[1].num_batches_tracked == 0


class Once(Points):
    """Three batches in a row are bad, but only the first time they are read."""

    def __init__(self):
        super().__init__()
        self.reads = 0

    def batch(self, indices: Tensor) -> Mapping[str, Any]:
        self.reads += 1
        found = dict(super().batch(indices))
        if 6 <= self.reads <= 8:
            found["image"] = found["image"] * torch.nan
        return found


def test_after_three_bad_steps_it_goes_back_and_halves_the_rate_once(tmp_path):
    config = replace(CONFIG, steps=12)
    folder = RunFolder.create(tmp_path, Recipe("regressor", {}, config))
    trainer, reports = train(Regressor(), config, data=Once(), folder=folder)
    assert [r.step for r in reports] == [1, 2, 3, 4, 5, 6, 7, *range(5, 13)]
    note = r"NaN or infinity in 3 steps in a row.*went back from step 7 to 4 with half the learning rate"
    assert re.search(note, " ".join(reports[7].notes))
    assert trainer.folder.newest().state["slow"] == 0.5
    assert [r["step"] for r in folder.records()] == [2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(
    ("where", "place"),
    [("loss", "the loss itself"), ("gradient", "gradient of 'head.bias'"), ("module", "the loss itself")],
)
def test_persistent_nan_ends_with_a_report(tmp_path, where, place):
    folder = RunFolder.create(tmp_path, Recipe("poisoned", {}, CONFIG))
    match = f"Training diverged: NaN or infinity in 3 steps in a row up to step 5, first in {place}"
    with pytest.raises(DivergedError, match=match):
        train(Poisoned(where, range(3, 9)), folder=folder)
    report = json.loads((tmp_path / "nan_report.json").read_text())
    assert report["step"] == 5
    assert report["place"] == place
    assert len(report["examples"]) == 12
    assert folder.newest().step == 2


def test_the_report_names_the_module_and_the_bad_example(tmp_path):
    system = Regressor()
    system.body[4].weight.data.fill_(1e38)
    folder = RunFolder.create(tmp_path / "a", Recipe("regressor", {}, CONFIG))
    with pytest.raises(DivergedError, match=r"first in module 'body\.4'\. Lower the learning rate"):
        train(system, folder=folder)
    folder = RunFolder.create(tmp_path / "b", Recipe("regressor", {}, CONFIG))
    with pytest.raises(DivergedError, match="first in batch field 'image'"):
        train(Regressor(), data=Points(12, poisoned=frozenset({4})), folder=folder)
    assert json.loads((tmp_path / "b" / "nan_report.json").read_text())["bad_examples"] == [4]


def test_an_unreadable_example_ends_training_with_its_own_error():
    class Broken(Points):
        def batch(self, indices: Tensor) -> Mapping[str, Any]:
            if 30 in indices:
                raise DataError("'a.jpg' is no picture; remove it.")
            return super().batch(indices)

    with pytest.raises(DataError, match=r"'a\.jpg' is no picture"):
        train(Regressor(), data=Broken())


def test_a_folder_in_use_or_already_trained_is_refused(tmp_path):
    folder = RunFolder.create(tmp_path, Recipe("game", {}, CONFIG))
    with pytest.raises(BusyError, match="is in use by pid"):
        train(Game(), folder=RunFolder.open(tmp_path))
    train(Game(), folder=folder)
    with pytest.raises(UsageError, match="holds a run at step 6; resume it, or choose another folder"):
        train(Game(), folder=RunFolder.open(tmp_path))
    with pytest.raises(DataError, match=r"does not fit this system: .* is in only one of them"):
        train(Regressor(), folder=RunFolder.open(tmp_path), resume=True)


def test_a_system_without_players_cannot_be_trained():
    class Idle(Game):
        def players(self) -> dict[str, Player]:
            return {}

    with pytest.raises(UsageError, match="Idle has nothing to train"):
        Trainer(Idle(), Points(), CONFIG)


def _train_on_a_full_disk(path, results) -> None:
    folder = RunFolder(path, disk_wait=0.3, disk_retry=0.1)
    trainer = Trainer(Game(GameConfig(width=400)), Points(), CONFIG, folder, device=CPU)
    try:
        for report in trainer.run():
            if report.step == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, resource.RLIM_INFINITY))
    except StorageError as error:
        results.put((error.exit_code, str(error)))


def test_a_disk_that_stays_full_ends_training_and_keeps_what_was_saved(tmp_path):
    RunFolder.create(tmp_path, Recipe("game", {}, CONFIG)).unlock()
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_train_on_a_full_disk, args=(tmp_path, results))
    process.start()
    code, text = results.get(timeout=30)
    process.join(20)
    assert code == 74
    assert "Free some space; what was saved before is whole" in text
    assert RunFolder(tmp_path).newest().step == 2
    assert all(finding.whole for finding in RunFolder(tmp_path).verify())


def test_the_learning_rate_follows_the_schedule():
    config = GameConfig(optim=OptimConfig(lr=0.1, warmup=4, clip=0.0))
    trainer = Trainer(Game(config), Points(), replace(CONFIG, steps=2), device=CPU)
    run = trainer.run()
    start = [p.detach().clone() for p in trainer.system.maker.parameters()]
    first: Report = next(run)
    assert first.step == 1
    moved = max(
        (p - s).abs().max().item() for p, s in zip(trainer.system.maker.parameters(), start, strict=True)
    )
    assert moved == pytest.approx(0.1 / 4, rel=1e-2)
