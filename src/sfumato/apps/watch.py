"""What a person sees of a training: speed, losses, pictures at growing intervals, and curves if asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from sfumato import images
from sfumato.apps.bar import Bar, duration
from sfumato.apps.talk import Talk, write
from sfumato.apps.trial import side_by_side, trial
from sfumato.core.request import Images
from sfumato.core.system import System
from sfumato.core.trainer import Report, Trainer
from sfumato.data.dataset import Dataset
from sfumato.errors import MissingExtraError

MEASURED = 3
"""Steps after which the time to go is first told."""
LARGE = 64
"""Side in pixels from which fewer preview pictures are made."""
FEW = 4
"""Examples shown one below the other; more stand in two columns."""
PREVIEWS = {True: 4, False: 16}
"""Preview pictures: of large pictures, of small ones."""


@runtime_checkable
class Curves(Protocol):
    """What draws curves: TensorBoard's writer, for example."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> object: ...

    def close(self) -> object: ...


def tensorboard(folder: Path) -> Curves:
    """A writer of TensorBoard's event files; a ``MissingExtraError`` if it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            '--tensorboard needs the extra "track": pip install "sfumato[track]"'
        ) from error
    writer: Curves = SummaryWriter(str(folder))
    return writer


class Watch:
    """Follows the reports of one training."""

    def __init__(
        self,
        trainer: Trainer,
        data: Dataset,
        folder: Path,
        talk: Talk,
        *,
        curves: Curves | None,
        first: bool,
        previews: int | None = None,
    ):
        self.trainer, self.data, self.folder, self.talk, self.curves = trainer, data, folder, talk, curves
        self.previews, self.first = previews, first
        """Whether this process speaks and writes."""
        self.last_grid: Path | None = None
        self._began: int | None = None
        self._shown, self._started = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been watching."""
        return time.monotonic() - self._started

    def see(self, report: Report, bar: Bar) -> None:
        """Take in one step."""
        for note in report.notes:
            self.talk.warn(note)
        self._began = report.step if self._began is None else self._began
        if report.step - self._began == MEASURED - 1:
            togo = duration(left(report, self.trainer.config.batch))
            self.talk.note(f"time        about {togo} to go (measured on {MEASURED} steps)")
        last = report.step == report.steps
        every = self.trainer.config.log_every
        if self.first and (last or report.step % every == 0 or time.monotonic() - self._shown > 1):
            self._shown = time.monotonic()
            values = report.values()
            bar.update(report.step / report.steps, words(report, values, self.trainer.config.batch))
            if last or report.step % every == 0:
                self._log(report, values)
        if report.saved is not None or due(report.step):
            self._grid(report.step)

    def _log(self, report: Report, values: Mapping[str, float]) -> None:
        speed = {"images_per_second": round(report.images_per_second, 2), "waiting": round(report.waiting, 4)}
        if self.talk.as_json:
            write(json.dumps({"step": report.step, "steps": report.steps, **speed, **values}))
        if self.curves is not None:
            for name, value in {**values, **speed}.items():
                self.curves.add_scalar(name, value, report.step)

    def _grid(self, step: int) -> None:
        """All processes make the pictures, for each holds a part of the weights; the first writes them."""
        with self.trainer.averaged():
            shown = preview(self.trainer, self.data, self.previews)
        if shown is not None and self.first:
            path = self.folder / "samples" / f"{step:06d}.png"
            images.save_png(images.grid(*shown), path, {"step": step})
            self.last_grid = path


@torch.no_grad()
def preview(
    trainer: Trainer, data: Dataset, wanted: int | None = None
) -> tuple[torch.Tensor, int | None] | None:
    """Pictures that show how training goes, and in how many columns they lie (None: as many as rows).

    None if there is nothing to see or training is to stop. What systems make of pictures lies beside these.
    """
    system, facts = trainer.system, data.facts
    count = PREVIEWS[max(facts.height, facts.width) > LARGE] if wanted is None else wanted
    if count < 1:
        return None
    system.eval()
    request = system.preview(count, seed=trainer.config.seed)
    if request is not None:
        answer = _answer(system, request, trainer)
        return None if answer is None else (answer, None)
    tried = trial(system, data.batch(torch.arange(min(len(data), (count + 1) // 2))), trainer.config.seed)
    if tried is None or (answer := _answer(system, tried.request, trainer)) is None:
        return None
    shown = side_by_side(tried, answer)
    each = len(shown) // len(answer)
    return shown, each * (2 if len(answer) > FEW else 1)


def _answer(system: System[Any], request: Any, trainer: Trainer) -> torch.Tensor | None:
    for event in system.run(request):
        if trainer.stopping:
            return None
        if isinstance(event, Images):
            return event.pixels
    return None


def due(step: int) -> bool:
    """Whether a picture is due: at steps 1, 2, 5, 10, 20, 50, 100 and so on.

    >>> [step for step in range(1, 1001) if due(step)]
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    """
    return str(step).rstrip("0") in ("1", "2", "5")


def left(report: Report, batch: int) -> float:
    """Seconds to go at the present speed."""
    return (report.steps - report.step) * batch / max(report.images_per_second, 1e-9)


def words(report: Report, values: Mapping[str, float], batch: int) -> str:
    """Step, speed, time to go, losses, and the share of time spent waiting for data."""
    losses = {name: value for name, value in values.items() if not name.endswith("/norm")}
    last = [name.split("/")[-1] for name in losses]
    parts = [  # of players who lose alike, the name is told too
        f"{name.replace('/', ' ') if last.count(short) > 1 else short} {value:.4g}"
        for (name, value), short in zip(losses.items(), last, strict=True)
    ]
    told = [
        f"step {report.step}/{report.steps}",
        f"{report.images_per_second:,.0f} images/s",
        f"{duration(left(report, batch))} to go",
        *parts,
        f"waiting {report.waiting:.0%}",
    ]
    return ", ".join(told + ([f"{report.skipped} updates skipped"] if report.skipped else []))
