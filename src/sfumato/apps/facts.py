"""What can be said about systems, datasets and models without loading any of them."""

from __future__ import annotations

import ast
import importlib.util
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato.errors import DataError, UsageError, nearest
from sfumato.registry import DATASETS, SYSTEMS

FAMILIES = {
    "style": "Style transfer",
    "reading": "Reading pictures",
    "autoencoders": "Autoencoders",
    "gans": "Adversarial networks",
    "text": "Pictures from words",
    "diffusion": "Diffusion",
    "editing": "Editing",
    "video": "Moving pictures",
    "motion": "Motion",
    "views": "Views in space",
    "sound": "Sound",
}
"""The families of systems, in the order in which they are shown, by the names of their folders."""
WEIGHTS = Path(__file__).parents[1] / "weights"
"""Models that come with the package, one folder each."""


@dataclass(frozen=True)
class PresetFacts:
    """One way to train a system, with what was measured."""

    name: str
    data: str
    minutes: float | None
    machine: str
    figures: tuple[Mapping[str, Any], ...]
    """Each with name, value, n, control and the command that shows it."""


@dataclass(frozen=True)
class SystemFacts:
    """What stands in the file of facts beside a system."""

    name: str
    title: str
    sentence: str
    paper: str
    authors: str
    year: int
    arxiv: str
    bibtex: str
    equations: tuple[str, ...]
    presets: tuple[PresetFacts, ...]
    file: Path
    """The Python file, to be read beside the paper."""
    use: str = ""
    """The command that asks it, for a system with nothing to train; empty for all others."""

    @property
    def family(self) -> str:
        return self.file.parent.name

    @property
    def verb(self) -> str:
        """The command whose ``--help`` lists its settings."""
        return " ".join(self.use.split()[:2]) or f"sfumato train {self.name} {self.presets[0].name}"

    @property
    def link(self) -> str:
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""


def system(name: str) -> SystemFacts:
    """The facts of one system; an unknown name is a ``UsageError`` with a suggestion."""
    if name not in SYSTEMS:
        raise UsageError(f"Unknown system '{name}'{nearest(name, SYSTEMS)}")
    file = _source(SYSTEMS[name])
    beside = file.with_suffix(".toml")
    if not beside.exists():
        raise DataError(f"System '{name}' has no file of facts; write {beside.name} beside {file.name}")
    told = tomllib.loads(beside.read_text(encoding="utf-8"))
    try:
        return _facts(name, file, told)
    except KeyError as missing:
        raise DataError(f"{beside.name} does not tell {missing}; add it") from missing


def by_family() -> dict[str, list[SystemFacts]]:
    """The facts of all systems, family by family."""
    every = [system(name) for name in SYSTEMS]
    order = [*FAMILIES, *dict.fromkeys(told.family for told in every if told.family not in FAMILIES)]
    grouped = {family: [told for told in every if told.family == family] for family in order}
    return {FAMILIES.get(family, family): members for family, members in grouped.items() if members}


def _facts(name: str, file: Path, told: Mapping[str, Any]) -> SystemFacts:
    authors = told.get("authors", "")
    return SystemFacts(
        name=name,
        title=told["title"],
        sentence=told["sentence"],
        paper=told["paper"],
        authors=authors if isinstance(authors, str) else ", ".join(authors),
        year=told["year"],
        arxiv=told.get("arxiv", ""),
        bibtex=told["bibtex"].strip(),
        equations=tuple(told.get("equations", ())),
        presets=tuple(_preset(preset) for preset in told["presets"]),
        file=file,
        use=told.get("use", ""),
    )


def _preset(told: Mapping[str, Any]) -> PresetFacts:
    return PresetFacts(
        name=told["name"],
        data=told.get("data", ""),
        minutes=told.get("minutes"),
        machine=told.get("machine", ""),
        figures=tuple(told.get("figures", ())),
    )


def preset_named(facts: SystemFacts, name: str) -> PresetFacts:
    """One preset of a system; an unknown name is a ``UsageError`` with a suggestion."""
    presets = {preset.name: preset for preset in facts.presets}
    if name not in presets:
        raise UsageError(f"System '{facts.name}' has no preset '{name}'{nearest(name, presets)}")
    return presets[name]


def dataset_sentence(name: str) -> str:
    """The first sentence of the file in which a dataset lives, or, of several in one file, its own."""
    entry = DATASETS[name]
    module, _, attribute = entry.partition(":")
    several = sum(other.partition(":")[0] == module for other in DATASETS.values()) > 1
    text = docstring(_source(entry), attribute) if several else ""
    sentence = (text or docstring(_source(entry))).split("\n\n")[0]
    return sentence.replace("\n", " ").replace("``", "'")


def docstring(file: Path, of: str = "") -> str:
    """What a Python file, or the class or function ``of`` in it, says of itself; empty if it says nothing."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    if not of:
        return ast.get_docstring(tree) or ""
    found = (
        node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == of
    )
    return next((ast.get_docstring(node) or "" for node in found), "")


def models() -> dict[str, Path]:
    """The models that come with the package: names and folders."""
    return {path.parent.name: path.parent for path in sorted(WEIGHTS.glob("*/config.json"))}


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a run or a model; anything else there is a ``DataError``."""
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"'{folder}' is not a run: it has no config.json; give a run's folder") from None
    except ValueError as error:
        raise DataError(f"'{folder}/config.json' is not JSON ({error}); restore it or train anew") from None
    if not isinstance(told, dict) or "system" not in told:
        raise DataError(f"'{folder}/config.json' names no system; give the folder of a run of sfumato")
    return told


def _source(entry: str) -> Path:
    module = entry.partition(":")[0]
    package, _, last = module.partition(".")[2].rpartition(".")
    root = Path(__file__).parents[1].joinpath(*package.split("."))
    file = root / f"{last}.py"
    return file if file.exists() else root / last / "__init__.py"


def installed(module: str) -> bool:
    """Whether a module could be imported; it is not imported."""
    return importlib.util.find_spec(module) is not None
