"""What all verbs share that ask a model for something: their options, the model, the answer, the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sfumato.apps.bar import Bar, duration
from sfumato.apps.talk import Common, Talk
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.apps.sample import Look, Report, Source
    from sfumato.core.request import Request, Result
    from sfumato.core.system import System


@dataclass(frozen=True, kw_only=True)
class Choosing(Common):
    """Options of every verb that needs a model."""

    model: str = ""
    """A model that comes with the package, a run, a folder of diffusers or transformers, or a weight file; by
    default the first that comes along and can."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the network; auto is bf16 where this machine computes it fast."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ..."""

    def load(self, name: str | Path) -> System[Any]:
        """A model, as these options want it."""
        from sfumato.apps import load

        return load.load(name, precision=self.precision, device=self.device)

    def take(self, system: System[Any], load: Callable[[str], System[Any]]) -> dict[str, Any]:
        """Give a system what the options add to it for this run; returns it as settings."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Asking(Choosing):
    """Options of every verb that asks a model for pictures."""

    out: Path = Path("out")
    """Where the pictures go."""
    seed: int = 0
    """Same seed, same answer."""

    def load(self, name: str | Path) -> System[Any]:
        """As ``Choosing.load``; a place that cannot be written is told before anything costs."""
        from sfumato.apps.pictures import check_folder

        check_folder(self.out)
        return super().load(name)


@dataclass(frozen=True)
class Asked:
    """A model that is being asked: it answers with a bar, and tells what was written in the end."""

    system: System[Any]
    source: Source
    size: int | None
    """Height and width in pixels of the pictures it learned from, where that is known."""
    talk: Talk
    started: float

    @classmethod
    def open(cls, options: Choosing, task: type[Request]) -> Asked:
        """Load the model of the options; a ``UsageError`` if it does not serve this kind of request."""
        from sfumato.apps import load
        from sfumato.apps.sample import Source, check_can, models_for, others, verb_of
        from sfumato.core.checkpoint import RunFolder

        name = options.model or next(iter(models_for(task)), "")
        if not name:
            raise UsageError(
                f"No model that comes along can {verb_of(task)}; give one with --model. {others(task)}"
            )
        folder = load.folder_of(name)
        system = options.load(name)
        check_can(system, task)
        ours = (folder / "config.json").exists() and not load.pipeline_of(folder)
        size = RunFolder.open(folder).recipe.size if ours else None
        added = options.take(system, options.load)
        return cls(system, Source.of(folder, name, added), size, options.talk, time.monotonic())

    @classmethod
    def upon(cls, options: Asking, name: str, base: Path | None, settings: Sequence[str], what: str) -> Asked:
        """Build a system upon another one's networks; ``settings`` are its own, for the command ``what``."""
        from sfumato.apps import load
        from sfumato.apps.pictures import check_folder
        from sfumato.apps.sample import Source

        check_folder(options.out)
        system = load.upon(name, "" if base is None else base, settings, what)
        system = load.ready(system, precision=options.precision, device=options.device)
        where = base if base is not None and base.exists() else load.folder_of(name if base is None else base)
        return cls(system, Source.of(where, name), None, options.talk, time.monotonic())

    @contextmanager
    def bar(self, doing: str) -> Iterator[Report]:
        """Shows how far something has come while inside."""
        with Bar(doing, self.talk) as bar:
            yield bar.update

    def answer(self, request: Request, report: Report, look: Look | None = None) -> Result:
        """Serve a request; ``look`` sees what there is to see on the way."""
        from sfumato.apps.sample import answer, blind

        return answer(self.system, request, report=report, look=look or blind)

    def settings(self, request: Request, pixels: Tensor) -> dict[str, Any]:
        """What makes the answer again."""
        from sfumato.apps.sample import settings_of

        return settings_of(self.system, request, self.source, pixels)

    def tell(self, what: str, paths: Sequence[Path], notes: Sequence[str] = (), **more: Any) -> int:
        """Say what was made and where it lies: in words on stderr, paths or JSON on stdout."""
        seconds = time.monotonic() - self.started
        for note in dict.fromkeys(notes):
            self.talk.warn(note)
        self.talk.note(f"{what} in {duration(seconds)} with loading, by '{self.source.model}'")
        files = [str(path) for path in paths]
        told = {"files": files, "model": self.source.model, "notes": list(dict.fromkeys(notes))}
        self.talk.result(told | more | {"seconds": round(seconds, 3)})
        for path in files:
            self.talk.line(path)
        return 0
