"""The verb ``train``: plan, first stage if there is one, training, model card."""

from __future__ import annotations

import json
import os
import shlex
import signal
import threading
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable

import tyro
from tyro.conf import Positional, Suppress

from sfumato.apps import facts
from sfumato.apps.talk import Common, Talk, counted, write
from sfumato.errors import UsageError

if TYPE_CHECKING:
    from sfumato.apps.plan import Plan
    from sfumato.core.checkpoint import RunFolder
    from sfumato.core.system import System
    from sfumato.core.trainer import Trainer
    from sfumato.data.dataset import Dataset
    from sfumato.data.pictures import Unreadable


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Train a system on a dataset or on your own pictures.

    Example: sfumato train ldm laptop --data ./my_photos --out runs/mine

    Any setting of the system can follow, such as --network.channels 64; 'sfumato train ddpm digits --help'
    lists those of ddpm. Stopped by Ctrl-C or killed, it goes on with: sfumato train --resume --out RUN
    """

    system: Annotated[Positional[str], tyro.conf.arg(metavar="[SYSTEM]")] = ""
    """Which system: a name from 'sfumato list'."""
    preset: Annotated[Positional[str], tyro.conf.arg(metavar="[PRESET]")] = ""
    """Which preset of it; by default its first."""
    data: str | None = None
    """A dataset, or a folder of pictures; by default the preset's."""
    source: str = ""
    """A font whose characters others are drawn from, for systems that turn fonts into fonts: a .ttf, .otf
    or .ttc file (FILE#1 is the second font of a collection), or a stroke font such as regular."""
    target: tuple[str, ...] = ()
    """The fonts that are to be learned, likewise; one or several."""
    characters: str = ""
    """Which characters; by default those that all the fonts have."""
    out: Path | None = None
    """The run folder; by default runs/SYSTEM-PRESET."""
    resume: bool = False
    """Go on with the run in --out, bit for bit as if it had not stopped; with --steps, to another end."""
    steps: int | None = None
    """How many steps in all; by default the preset's."""
    batch: int | None = None
    """Pictures a step, over all processes and accumulated parts."""
    accumulate: int | None = None
    """Parts in which each process takes its share of the batch; more need less memory."""
    size: int | None = None
    """Height and width of the pictures, in pixels."""
    seed: int | None = None
    """Same seed, same weights."""
    precision: Literal["auto", "fp32", "bf16"] | None = None
    """Of matrix products; auto is bf16 where this machine computes it fast."""
    save_every: int | None = None
    """Steps between checkpoints."""
    log_every: int | None = None
    """Steps between lines of the log."""
    base: Path | None = None
    """A finished run, a model that comes along, or a weight file to build on, in place of training the
    preset's first stage."""
    base_steps: int | None = None
    """How many steps the first stage takes, where there is one, and each of those below it."""
    max_bad: str | None = None
    """How many of your own pictures may be unreadable; by default 10%."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ..."""
    previews: int | None = None
    """Pictures in each grid of samples; 0 makes none. By default 16, of large pictures 4."""
    tensorboard: bool = False
    """Also write curves for TensorBoard into the run folder."""
    allow_network: bool = False
    """Let missing public data be downloaded."""
    settings: Suppress[tuple[str, ...]] = ()


BAD_FILES = "bad_files.jsonl"
"""In the run folder: pictures that could not be read, one a line."""


@runtime_checkable
class Skipping(Protocol):
    """Data that leaves out what it cannot read."""

    @property
    def unreadable(self) -> tuple[Unreadable, ...]: ...


KEPT_FIELDS = ("batch", "accumulate", "seed", "precision", "save_every", "log_every")
TRAIN_FIELDS = ("steps", *KEPT_FIELDS)
FONT_FIELDS = ("source", "target", "characters")
NEW_ONLY = (*KEPT_FIELDS, *FONT_FIELDS, "system", "preset", "data", "size", "base", "base_steps", "settings")
"""Options that a resumed run does not take: its own count. How far it goes may change."""


def main(options: Options) -> int:
    """Train; exit code 0 when finished, 130 after Ctrl-C and 143 after SIGTERM, when all is saved."""
    first = os.environ.get("RANK", "0") == "0"
    talk = options.talk if first else Talk(quiet=True)
    _check(options)

    from sfumato import device
    from sfumato.apps import plan as plans

    device.setup()
    max_bad = None if options.max_bad is None else share(options.max_bad)
    if options.resume and options.out is not None:
        plan = plans.resumed(options.out, max_bad, options.steps)
    else:
        data, preset = options.data, options.preset
        if options.target:
            fonts = {"source": [options.source], "target": options.target}
            if options.characters:
                fonts["characters"] = [options.characters]
            data, preset = plans.of_fonts(options.system, preset, fonts)
        plan = plans.new(
            options.system,
            preset,
            options.out or free_folder(options.system, preset),
            data=data,
            size=options.size,
            train={name: value for name in TRAIN_FIELDS if (value := getattr(options, name)) is not None},
            settings=options.settings,
            base=options.base,
            base_steps=options.base_steps,
            allow_network=options.allow_network,
            max_bad=max_bad,
        )
    code = Training(options.device, options.tensorboard, talk, first, options.previews).carry_out(plan)
    if code == 0 and first:
        if talk.as_json:
            write(json.dumps({"run": str(plan.out), "state": "finished"}))
        talk.line(str(plan.out))
    return code


def _check(options: Options) -> None:
    """What can be told wrong before torch is loaded."""
    if options.resume:
        if options.out is None:
            raise UsageError("--resume needs the run: say which with --out RUN")
        if given := [name for name in NEW_ONLY if getattr(options, name) not in (None, "", ())]:
            flag = given[0].replace("_", "-")
            raise UsageError(
                f"A resumed run keeps its own settings; leave out '--{flag}', or train anew without --resume"
            )
        return
    if not options.system:
        raise UsageError(
            "Train what? Give a system, as in 'sfumato train ddpm digits'; 'sfumato list' shows all"
        )
    if bool(options.source) != bool(options.target) or (options.characters and not options.target):
        raise UsageError("Fonts are turned into others: give both --source FONT and --target FONT")
    if options.target and options.data is not None:
        raise UsageError("--data and --source with --target both say what to learn from; give one of them")
    told = facts.system(options.system)
    if options.preset:
        facts.preset_named(told, options.preset)
    if (
        options.out is not None
        and (options.out / "config.json").exists()
        and os.environ.get("RANK", "0") == "0"
    ):
        raise UsageError(f"'{options.out}' already holds a run; go on with --resume, or choose another --out")


def share(text: str) -> float:
    """A share as people write it.

    >>> share("10%"), share("0.25")
    (0.1, 0.25)
    """
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"--max-bad is a share such as 10% or 0.1, got '{text}'")
    return value


def name_bad_files(data: Dataset, out: Path, talk: Talk, known: int = 0) -> int:
    """Write which pictures of a folder could not be read, and why, into the run; return how many they are.

    Nothing happens if no more are found than were ``known``.
    """
    bad = data.unreadable if isinstance(data, Skipping) else ()
    if len(bad) <= known:
        return known
    from sfumato.core import durable

    path = out / BAD_FILES
    lines = (json.dumps({"file": item.file, "reason": item.reason}, ensure_ascii=False) for item in bad)
    durable.write_text(path, "\n".join(lines) + "\n")
    talk.warn(f"{counted(len(bad), 'picture')} cannot be read and will be left out; '{path}' names them")
    return len(bad)


def free_folder(system: str, preset: str) -> Path:
    """``runs/SYSTEM-PRESET``, with a number if there is such a run already."""
    name = f"{system}-{preset}" if preset else system
    path, number = Path("runs", name), 1
    while (path / "config.json").exists():
        number += 1
        path = Path("runs", f"{name}-{number}")
    return path


@dataclass(frozen=True)
class Training:
    """The carrying out of plans."""

    device: str
    tensorboard: bool
    talk: Talk
    first: bool
    """Whether this process speaks and writes."""
    previews: int | None = None

    def carry_out(self, plan: Plan) -> int:
        """Train what the plan says, its first stage before it."""
        from sfumato.core.checkpoint import RunFolder
        from sfumato.core.parallel import Ranks

        ranks = Ranks(size=int(os.environ.get("WORLD_SIZE", "1")))
        ranks.rows(plan.train.batch, plan.train.accumulate)  # Told before a first stage has cost its time.
        folder = RunFolder(plan.out)
        fresh = self.first and not (plan.out / "config.json").exists()
        if self.first:
            folder = RunFolder.create(plan.out, plan.recipe) if fresh else RunFolder.open(plan.out)
            folder.lock()
            if folder.recipe.train.steps != plan.train.steps:
                folder.amend(plan.recipe)
        try:
            return self._carry_out(plan, folder)
        except BaseException:
            if fresh:
                folder.withdraw()
            raise

    def _carry_out(self, plan: Plan, folder: RunFolder) -> int:
        stage = plan.first_stage()
        if stage is not None and not finished(stage):
            self.talk.note(f"First stage: {stage.recipe.system} {stage.recipe.preset}", style="bold")
            if code := self.carry_out(stage):
                return code
            self.talk.note(f"\nSecond stage: {plan.recipe.system} {plan.recipe.preset}", style="bold")
        system = self._ready(plan)
        for name, said in plan.lines(system):
            self.talk.note(f"{name:<11} {said}")
        return self._train(plan, system, folder)

    def _ready(self, plan: Plan) -> System[Any]:
        from sfumato.apps.plan import load_base

        system = plan.build()
        if plan.base is not None:
            system.adopt(load_base(plan.base))
        return system

    def _train(self, plan: Plan, system: System[Any], folder: Any) -> int:
        from sfumato import device
        from sfumato.apps import card
        from sfumato.apps.bar import Bar
        from sfumato.apps.watch import Watch, tensorboard
        from sfumato.core.trainer import Trainer

        place = device.pick(self.device)
        curves = tensorboard(plan.out / "tensorboard") if self.tensorboard and self.first else None
        resume = (plan.out / "checkpoints").exists()
        trainer = Trainer(system, plan.data, plan.train, folder, device=place, resume=resume)
        watch = Watch(
            trainer, plan.data, plan.out, self.talk, curves=curves, first=self.first, previews=self.previews
        )
        known = name_bad_files(plan.data, plan.out, self.talk) if self.first else 0
        try:
            with stopping_on_signals(trainer, self.talk) as signals, Bar("training", self.talk) as bar:
                moved = False
                for report in trainer.run():
                    moved = True
                    watch.see(report, bar)
        finally:  # some are found only when they are decoded
            if self.first:
                name_bad_files(plan.data, plan.out, self.talk, known)
        if curves is not None:
            curves.close()
        if trainer.state == "stopped":
            self.talk.note(
                f"saved at step {trainer.step}; go on with: sfumato train --resume --out "
                f"{shlex.quote(str(plan.out))}"
            )
            return 128 + signals[0]
        if self.first:
            if moved or not (plan.out / "README.md").exists():  # Figures measured since stay in the card.
                card.write(plan, trainer, watch)
            grid = f", pictures in {watch.last_grid}" if watch.last_grid else ""
            self.talk.note(f"finished: {plan.out}{grid}")
        return 0


def finished(plan: Plan) -> bool:
    """Whether the run of a plan has come to its end."""
    from sfumato.core.checkpoint import RunFolder

    if not (plan.out / "config.json").exists():
        return False
    newest = RunFolder.open(plan.out).newest()
    return newest is not None and newest.step >= plan.train.steps


@contextmanager
def stopping_on_signals(trainer: Trainer, talk: Talk) -> Iterator[list[int]]:
    """Inside, Ctrl-C and SIGTERM save and end training after the current step; a second one ends at once.

    Yields the list of signals that came.
    """
    came: list[int] = []

    def stop(number: int, _: types.FrameType | None) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)
        trainer.stop()
        talk.note("stopping after this step; once more to stop at once")

    main = threading.current_thread() is threading.main_thread()  # Python lets no other thread listen.
    numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def help_on_settings(args: Sequence[str]) -> None:
    """After the verb's own help: the settings of the system and preset that ``args`` name."""
    words = [arg for arg in args if not arg.startswith("-")]
    if not words:
        return
    from sfumato.apps.plan import find_preset
    from sfumato.apps.verbs import MARKERS

    kind, preset, name = find_preset(words[0], words[1] if len(words) > 1 else "")
    prog = f"sfumato train {words[0]} {name}"
    write(f"\nSettings of {words[0]}, with the values of the preset '{name}'.")
    write("One that is called like an option above is reached as --system.NAME.\n")
    tyro.cli(kind.Config, default=preset.config, args=["--help"], prog=prog, config=MARKERS)
