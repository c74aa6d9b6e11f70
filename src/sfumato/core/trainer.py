"""One trainer for every system."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sfumato.core import durable, parallel
from sfumato.core.checkpoint import Checkpoint, RunFolder
from sfumato.core.divergence import IN_A_ROW, SLOWER, diagnose, finite
from sfumato.core.ema import MovingAverage
from sfumato.core.fingerprint import changes, fingerprint
from sfumato.core.loader import Batches, Interrupted, Loader, Parts, Stoppable
from sfumato.core.optim import optimiser_of
from sfumato.core.rng import mix
from sfumato.core.system import Loss, System, TrainConfig
from sfumato.data.dataset import Dataset
from sfumato.device import Precision, autocast, dtype_of, pick
from sfumato.errors import DataError, DivergedError, UsageError

RECENT = 50
"""Steps over which speed and waiting are averaged."""


@dataclass(frozen=True)
class Report:
    """What one step was like. Logs stay on the device until ``values`` reads them."""

    step: int
    """Steps done."""
    steps: int
    logs: Mapping[str, Tensor]
    """Parts of the losses and gradient norms, as ``player/part``."""
    images_per_second: float
    """Over the last steps, all processes together, without saving and previews."""
    waiting: float
    """Share of that time in which training waited for data."""
    skipped: int
    """Updates left out because of NaN or infinity, since the start of the run."""
    saved: Path | None = None
    """The checkpoint this step ended with, in all processes alike."""
    notes: tuple[str, ...] = ()
    """What the user should hear: an inexact resume, a damaged checkpoint, a return to an older one."""

    def values(self) -> dict[str, float]:
        """The logs as numbers; waits for the device once."""
        if not self.logs:
            return {}
        return dict(zip(self.logs, torch.stack(list(self.logs.values())).tolist(), strict=True))


class Trainer:
    """Runs a system's games: one optimiser a player, one move a yielded loss.

    With a ``folder``, training saves, can be stopped and resumed bit for bit, and survives a kill at any
    moment: order, noise and dropout are functions of (seed, step). What a system keeps from step to step
    must therefore be a buffer. ``system.prepare(data)`` is called once, when ``run`` starts.
    """

    def __init__(
        self,
        system: System[Any],
        data: Dataset,
        config: TrainConfig,
        folder: RunFolder | None = None,
        *,
        device: torch.device | None = None,
        resume: bool = False,
    ):
        if not system.players():
            raise UsageError(f"{type(system).__name__} has nothing to train: it has no players.")
        self.system, self.data, self.config, self.folder, self.resume = system, data, config, folder, resume
        self.device = parallel.local_device(device or pick())
        self.precision: Precision = (
            "bf16" if dtype_of(config.precision, self.device) == torch.bfloat16 else "fp32"
        )
        self.ranks = parallel.Ranks()
        self.step, self.skipped = 0, 0
        self.state: Literal["ready", "running", "stopped", "finished"] = "ready"
        self.average: MovingAverage | None = None
        self._halt, self._in_a_row, self._slow, self._saved_at = False, 0, 1.0, -1
        self._notes: list[str] = []
        self._durations: deque[tuple[float, float]] = deque(maxlen=RECENT)

    # --- what callers use ------------------------------------------------------------------------

    def run(self) -> Iterator[Report]:
        """Train to the end, one report a step; then ``state`` is "finished", or "stopped" after ``stop``.

        Raises ``BusyError`` if the folder is being trained in, ``DivergedError`` if NaN persists,
        ``StorageError`` if the disk stays full, and what the dataset raises.
        """
        self.ranks = parallel.start(self.device)
        if self.folder is not None and self.ranks.first:
            self.folder.lock()
            self.folder.stopping = lambda: self._halt
        try:
            yield from self._run()
        finally:
            if self.folder is not None:
                self.folder.unlock()

    def stop(self) -> None:
        """Ask training to save and end after the current step; may be called from a signal handler."""
        self._halt = True

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called: what takes long between steps should look at it."""
        return self._halt

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the system has the weights it would be saved with: for previews and evaluation.

        With several processes, all must enter and run the system together.
        """
        return self.average.swapped() if self.average is not None else nullcontext()

    # --- the heart -------------------------------------------------------------------------------

    def _step(self, parts: Parts) -> dict[str, Tensor]:
        """Let every player move once per ``yield``; microbatches share each move."""
        self._seed(mix(self.config.seed, parts.step, self.ranks.rank, "dropout"))
        self._wake()
        kept = [b.detach().clone() for b in self._buffers]
        streams = [self.system.losses(batch, parts.step) for batch in parts.batches]
        logs: dict[str, Tensor] = {}
        good = True
        while moved := self._move(streams):
            loss, norm, healthy = moved
            logs |= {f"{loss.player}/{k}": v for k, v in loss.parts.items()} | {f"{loss.player}/norm": norm}
            good = good and healthy
        if good:
            self._in_a_row = 0
            if self.average is not None:
                self.average.update()
        else:
            self._in_a_row += 1
            for buffer, before in zip(self._buffers, kept, strict=True):
                buffer.copy_(before)
        return logs

    def _move(self, streams: Sequence[Iterator[Loss]]) -> tuple[Loss, Tensor, bool] | None:
        """Advance all microbatches to their next loss, then update the player it names."""
        taken: list[Loss] = []
        for stream in streams:
            with autocast(self.precision, self.device):
                loss = next(stream, None)
            if loss is None:
                return None
            parallel.backward(loss.value / len(streams), self.system, self._moving[loss.player])
            taken.append(loss)
        joint = _joined(taken)
        norm, healthy = self._clip(joint)
        if healthy:
            self.optimisers[joint.player].step(self.step, self._slow)
        else:
            self.skipped += 1
        self.optimisers[joint.player].zero_grad()
        return joint, norm, healthy

    def _clip(self, loss: Loss) -> tuple[Tensor, bool]:
        """Limit the norm of the joint gradient; false if the loss or the gradient is not finite.

        Reading that one number is the only wait for the device in a step.
        """
        player = self.players[loss.player]
        parallel.settle(player)
        moving = self._moving[loss.player]
        norm = parallel.whole(nn.utils.get_total_norm([p.grad for p in moving if p.grad is not None]))
        good = bool(self.ranks.mean(finite(norm, loss.value)) == 1)
        if good and player.optim.clip > 0:
            nn.utils.clip_grads_with_norm_(moving, player.optim.clip, norm)
        return norm, good

    def _seed(self, seed: int) -> None:
        """Seed the global generators dropout draws from; ``torch.manual_seed`` does it 20 times slower."""
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _wake(self) -> None:
        """Players' modules learn, all others (frozen towers, first stages) stay in evaluation mode."""
        for module in self._modules:
            if not module.training:
                module.train()

    # --- the run around it -----------------------------------------------------------------------

    def _run(self) -> Iterator[Report]:
        try:
            self._begin()
        except Interrupted:
            self.state = "stopped"
            return
        while self.step < self.config.steps and not self._stopped():
            loader = Loader(self._batches, range(self.step, self.config.steps))
            try:
                yield from self._stretch(loader)
            finally:
                loader.close()
        if self.step != self._saved_at:
            self._save()
        self.state = "finished" if self.step >= self.config.steps else "stopped"
        self.system.eval()

    def _stretch(self, loader: Loader) -> Iterator[Report]:
        """Train until the end, a stop, or a return to an older checkpoint."""
        while self.step < self.config.steps and not self._stopped():
            start = time.perf_counter()
            parts = loader.next()
            logs = self._step(parts)
            self._durations.append((time.perf_counter() - start, loader.waited))
            if self._in_a_row >= IN_A_ROW:
                self._go_back(parts)
                return
            self.step += 1
            last = self.step == self.config.steps
            logged = last or self.step % self.config.log_every == 0
            due = last or (self.step % self.config.save_every == 0 and self._in_a_row == 0)
            report = self._report(logs)
            if logged:
                self._log(report)
            yield replace(report, saved=self._save()) if due else report

    def _stopped(self) -> bool:
        return self.ranks.any(self._halt, self.device)

    def _begin(self) -> None:
        """Make everything a step needs, then go on from the newest checkpoint, if there is one."""
        newest = self._newest()
        before = self.folder.read_env() if self.folder is not None and self.resume else {}
        if self.config.precision == "auto" and "precision" in before:
            self.precision = before["precision"]  # As measured then: measuring again may decide otherwise.
        self.system.to(self.device).eval()
        prepared = self.system.prepare(Stoppable(self.data, lambda: self._halt and self.state == "ready"))
        self.players = self.system.players()
        self.ranks.shard(self.system, self.players.values(), self.device)
        self._moving = {name: list(dict.fromkeys(p.parameters())) for name, p in self.players.items()}
        self._buffers = list(self.system.buffers())
        self._modules = [m for p in self.players.values() for m in p.modules]
        dtype = dtype_of(self.precision, self.device)
        self.optimisers = {n: optimiser_of(p, self.config.steps, dtype) for n, p in self.players.items()}
        self.average = MovingAverage(self.system, self.config.ema) if self.config.ema else None
        rows = self.ranks.rows(self.config.batch, self.config.accumulate)
        self._batches = Batches(
            prepared, batch=self.config.batch, seed=self.config.seed, rows=rows, device=self.device
        )
        if self.folder is not None:
            self._enter(self.folder, newest, before)
        self.state = "running"

    def _newest(self) -> Checkpoint | None:
        """The checkpoint to go on from; a ``UsageError`` if there is one and nobody asked to resume."""
        if self.folder is None:
            return None
        if self.ranks.first:
            self._notes += self.folder.tidy()
        self.ranks.wait()
        newest = self.folder.newest()
        if newest is not None and not self.resume:
            raise UsageError(
                f"'{self.folder.path}' holds a run at step {newest.step}; "
                "resume it, or choose another folder."
            )
        return newest

    def _enter(self, folder: RunFolder, newest: Checkpoint | None, before: Mapping[str, Any]) -> None:
        env = fingerprint(
            self.data, self.config, processes=self.ranks.size, precision=self.precision, device=self.device
        )
        if self.ranks.first:
            folder.truncate_log(newest.step if newest is not None else 0)
            folder.write_env(env)
        self.ranks.wait()
        if newest is not None:
            self._notes += changes(before, env)
            self._load(newest)
            if self.step >= self.config.steps:
                self._write_model(folder)  # The kill may have come between the last checkpoint and the model.

    def _report(self, logs: Mapping[str, Tensor]) -> Report:
        spent, waited = (sum(column) for column in zip(*self._durations, strict=True))
        speed = self.config.batch * len(self._durations) / spent
        notes, self._notes = tuple(self._notes), []
        return Report(self.step, self.config.steps, logs, speed, waited / spent, self.skipped, notes=notes)

    def _log(self, report: Report) -> None:
        values = self.ranks.mean(torch.stack(list(report.logs.values()))).tolist() if report.logs else []
        if self.folder is None or not self.ranks.first:
            return
        numbers = {k: v if math.isfinite(v) else None for k, v in zip(report.logs, values, strict=True)}
        self.folder.log(
            {
                "step": report.step,
                "images_per_second": round(report.images_per_second, 2),
                "waiting": round(report.waiting, 4),
                "skipped": report.skipped,
            }
            | numbers
        )

    # --- saving and going back -------------------------------------------------------------------

    def _save(self) -> Path | None:
        if self.folder is None:
            return None
        groups = {"model": parallel.gather(self.system.state_dict())}
        if self.average is not None:
            groups["ema"] = parallel.gather(self.average.state_dict())
        groups["optim"] = parallel.gather(
            {f"{name}/{key}": t for name, o in self.optimisers.items() for key, t in o.state_dict().items()}
        )
        state = {
            "skipped": self.skipped,
            "in_a_row": self._in_a_row,
            "slow": self._slow,
            "updates": self.average.updates if self.average is not None else 0,
        }
        if self.ranks.first:
            self.folder.save(self.step, groups, state)
            self.folder.write_model(groups["model"] | groups.get("ema", {}))
        self.ranks.wait()
        self._saved_at = self.step
        return self.folder.place(self.step)

    def _write_model(self, folder: RunFolder) -> None:
        model = parallel.gather(self.system.state_dict())
        average = parallel.gather(self.average.state_dict()) if self.average is not None else {}
        if self.ranks.first:
            folder.write_model(model | average)

    def _load(self, checkpoint: Checkpoint) -> None:
        """Take over everything that a checkpoint holds."""
        saved, live = checkpoint.tensors("model"), self.system.state_dict(keep_vars=True)
        if odd := sorted(saved.keys() ^ live.keys()):
            raise DataError(
                f"{checkpoint.path} does not fit this system: '{odd[0]}' is in only one of them. "
                "Resume with the configuration the run was started with."
            )
        with torch.no_grad():
            for name, tensor in live.items():
                parallel.put(saved[name], tensor)
        if self.average is not None:
            self.average.load_state_dict(checkpoint.tensors("ema"), checkpoint.state["updates"])
        optim = checkpoint.tensors("optim")
        for name, optimiser in self.optimisers.items():
            mine = {k.removeprefix(f"{name}/"): t for k, t in optim.items() if k.startswith(f"{name}/")}
            optimiser.load_state_dict(mine)
        self.step = self._saved_at = checkpoint.step
        self.skipped, self._in_a_row = checkpoint.state["skipped"], checkpoint.state["in_a_row"]
        self._slow = checkpoint.state["slow"]

    def _go_back(self, parts: Parts) -> None:
        """After too many skipped updates: the last checkpoint and half the learning rate, once."""
        found = diagnose(self.system, self.players, self._batches.at(parts.step), self.precision)
        if self.folder is not None and self.ranks.first:
            durable.write_json(self.folder.path / "nan_report.json", found)
        last = self.folder.newest() if self.folder is not None else None
        if last is None or self._slow != 1.0:
            raise DivergedError(
                f"Training diverged: NaN or infinity in {IN_A_ROW} steps in a row up to step {parts.step}, "
                f"first in {found['place']}. Lower the learning rate; nan_report.json names the examples."
            )
        skipped = self.skipped
        self._load(last)
        self.skipped, self._slow = skipped, SLOWER
        if self.folder is not None and self.ranks.first:
            self.folder.truncate_log(self.step)
        self._notes.append(
            f"NaN or infinity in {IN_A_ROW} steps in a row, first in {found['place']}; "
            f"went back from step {parts.step} to {self.step} with half the learning rate"
        )


def _joined(taken: Sequence[Loss]) -> Loss:
    """The mean of what the microbatches said."""
    first = taken[0]
    if len(taken) == 1:
        return first
    parts = {k: torch.stack([loss.parts[k] for loss in taken]).mean() for k in first.parts}
    return Loss(first.player, torch.stack([loss.value.detach() for loss in taken]).mean(), parts)
