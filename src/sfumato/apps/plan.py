"""What is about to be trained: system, settings, data and base, found and fitted to each other."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato import config as plain
from sfumato.apps.load import folder_of, load
from sfumato.apps.settings import override
from sfumato.core.checkpoint import KEEP, RunFolder
from sfumato.core.recipe import Recipe
from sfumato.core.rng import mix
from sfumato.core.system import Preset, System, TrainConfig
from sfumato.data import is_registered, open_data, with_settings
from sfumato.data.dataset import Dataset
from sfumato.errors import DataError, UsageError, nearest
from sfumato.registry import SYSTEMS, find

FIRST_STAGE = "first_stage"
"""Where, inside a run folder, the run lies on which it builds."""
FONT_DATA = {"font-files": frozenset({"source", "image"}), "fonts-unpaired": frozenset({"a", "b"})}
"""Datasets that fonts of one's own make, and the fields they give."""
COPIES = 4
"""Sizes of the weights in a checkpoint: weights, their average, and the optimiser's two moments."""


@dataclass(frozen=True)
class Plan:
    """One training from start to end."""

    recipe: Recipe
    kind: type[System[Any]]
    config: Any
    data: Dataset
    out: Path
    max_bad: float | None = None
    """Share of pictures that may be unreadable; None means the data's own limit."""

    @property
    def train(self) -> TrainConfig:
        return self.recipe.train

    def build(self) -> System[Any]:
        """The system before its first step: the same for the same seed."""
        torch.manual_seed(mix(self.train.seed, "weights"))
        return self.kind(self.config)

    @property
    def base(self) -> Path | None:
        """The run on which this one builds."""
        told = self.recipe.base
        return None if told is None else self.out / str(told["path"])

    def first_stage(self) -> Plan | None:
        """The plan of the run that must be trained first, if this one brings it along."""
        told = self.recipe.base
        if told is None or "system" not in told:
            return None
        overrides: dict[str, Any] = {"seed": self.train.seed, "precision": self.train.precision}
        if told["steps"] is not None:
            overrides["steps"] = told["steps"]
        folder = self.out / FIRST_STAGE
        return new(
            told["system"],
            told["preset"],
            folder,
            data=told.get("data") or self.recipe.data,
            size=self.recipe.size,
            train=overrides,
            base_steps=told["steps"],
            max_bad=self.max_bad,
        )

    def lines(self, system: System[Any]) -> list[tuple[str, str]]:
        """The plan in words, before it begins."""
        facts, train = self.data.facts, self.train
        sizes = {
            name: sum(p.numel() for p in player.parameters()) for name, player in system.players().items()
        }
        parameters = ", ".join(f"{name} {count:,}" for name, count in sizes.items())
        bytes_of_run = 4 * (sum(sizes.values()) * COPIES * KEEP + sum(p.numel() for p in system.parameters()))
        epochs = train.steps * train.batch / len(self.data)
        said = f"{train.steps:,} of {train.batch} pictures ({epochs:.1f} times through the data)"
        has = ", ".join(sorted(facts.fields))
        shape = f"{facts.channels} x {facts.height} x {facts.width}"
        rows = [
            ("system", f"{self.recipe.system}, preset {self.recipe.preset}"),
            ("data", f"{facts.name}: {len(self.data):,} examples ({has}), {shape}"),
            ("parameters", parameters),
            ("steps", said),
            ("disk", f"about {bytes_of_run / 1e6:,.0f} MB in {self.out}"),
        ]
        if self.base is not None:
            rows.insert(1, ("builds on", str(self.base)))
        return rows


def new(
    system: str,
    preset: str,
    out: Path,
    *,
    data: str | None = None,
    size: int | None = None,
    train: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    base: Path | None = None,
    base_steps: int | None = None,
    allow_network: bool = False,
    max_bad: float | None = None,
) -> Plan:
    """Plan a new run. ``train`` overrides fields of TrainConfig, ``settings`` (as on the command line) the
    system's own; an unknown name of anything is a ``UsageError`` with a suggestion."""
    kind, chosen, preset = find_preset(system, preset)
    if kind.stands_on:
        raise UsageError(
            f"'{system}' has nothing to train: it uses a {kind.stands_on} as it is, one that comes along or "
            f"your own; see sfumato describe {system}, or train one: sfumato train {kind.stands_on} --out RUN"
        )
    where = data or chosen.data
    if where == "folder":
        raise UsageError(
            f"'{system} {preset}' learns from your own pictures; say where they are with --data DIR"
        )
    config: Any = override(chosen.config, settings, f"train {system} {preset}")
    size = chosen.size if size is None else size
    if base_steps is not None and base_steps < 1:
        raise UsageError(f"--base-steps must be at least 1, got {base_steps}; leave it out for the preset's")
    opened = open_data(where, size=size, needs=kind.needs, allow_network=allow_network, max_bad=max_bad)
    config = kind.fit(config, opened.facts)
    if base is not None:
        config = kind.built_on(config, load_base(folder_of(base)))
    recipe = Recipe(
        system=system,
        config=plain.to_dict(config),
        train=dataclasses.replace(chosen.train, **dict(train or {})),
        data=where if is_registered(where) else str(Path(where).expanduser().resolve()),
        size=size,
        preset=preset,
        base=_base(chosen, out, base, base_steps, where),
    )
    return Plan(recipe, kind, config, opened, out, max_bad)


def load_base(folder: Path) -> System[Any]:
    """What a run builds on, ready to be adopted; ``DataError`` if it is not finished."""
    files = ("model.safetensors", "model.safetensors.index.json")
    if not (folder.is_file() or any((folder / name).exists() for name in files)):
        raise DataError(f"The base '{folder}' holds no finished run; train it first, or choose another")
    return load(folder, precision="fp32", device="cpu")


def _base(
    preset: Preset, out: Path, given: Path | None, steps: int | None, data: str
) -> dict[str, Any] | None:
    if given is not None:
        return {"path": os.path.relpath(folder_of(given), out)}
    if preset.base is None:
        return None
    told = {"path": FIRST_STAGE, "system": preset.base[0], "preset": preset.base[1], "steps": steps}
    return told | ({"data": preset.base_data} if preset.base_data and data == preset.data else {})


def find_preset(system: str, preset: str) -> tuple[type[System[Any]], Preset, str]:
    """The system, the preset (its first if ``preset`` is empty), and the preset's name."""
    kind: type[System[Any]] = find(system, SYSTEMS, "system")
    name = preset or next(iter(kind.presets))
    if name not in kind.presets:
        raise UsageError(f"System '{system}' has no preset '{name}'{nearest(name, kind.presets)}")
    return kind, kind.presets[name], name


def of_fonts(system: str, preset: str, fonts: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """The dataset that fonts make for a system (``source``, ``target`` and ``characters``), and the preset.

    Fonts are files, which are remembered by their whole path, or stroke fonts by name. Without a preset it
    is the first that is made for such data. Raises ``UsageError`` for systems that learn from no pairs of
    any kind.
    """
    kind: type[System[Any]] = find(system, SYSTEMS, "system")
    data = next((name for name, fields in FONT_DATA.items() if fields <= kind.needs), None)
    if data is None:
        raise UsageError(
            f"'{system}' does not learn to turn one font into another; leave --source and --target out, or "
            "train zi2zi"
        )
    whole = {
        name: values if name == "characters" else [_whole(font) for font in values]
        for name, values in fonts.items()
    }
    chosen = preset or next((name for name, given in kind.presets.items() if given.data == data), "")
    return with_settings(data, whole), chosen


def _whole(font: str) -> str:
    """The whole path of a font file; what is none stays as it is."""
    file, mark, face = font.partition("#")
    path = Path(file).expanduser()
    return f"{path.resolve()}{mark}{face}" if path.is_file() else font


def resumed(out: Path, max_bad: float | None = None, steps: int | None = None) -> Plan:
    """The plan of a run that was begun before; with ``steps``, to go on to another end than it had."""
    folder = RunFolder.open(out)
    recipe = folder.recipe
    if steps is not None:
        newest = folder.newest()
        if newest is not None and newest.step > steps:
            raise UsageError(f"'{out}' has taken {newest.step:,} steps already; give more than that")
        recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, steps=steps))
    kind: type[System[Any]] = find(recipe.system, SYSTEMS, "system")
    config: Any = plain.from_dict(kind.Config, recipe.config)
    opened = open_data(recipe.data, size=recipe.size, needs=kind.needs, max_bad=max_bad)
    return Plan(recipe, kind, config, opened, out, max_bad)
