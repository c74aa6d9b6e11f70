"""The rules of the house: floors, no circles, every file explains itself, every system is in the table."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from sfumato.core.system import System
from sfumato.registry import DATASETS, SYSTEMS, find

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "sfumato"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {"data": 1, "nn": 2, "core": 3, "metrics": 4, "compat": 4, "systems": 5, "apps": 6}
FAMILIES = (
    "style",
    "reading",
    "autoencoders",
    "gans",
    "text",
    "diffusion",
    "editing",
    "video",
    "motion",
    "views",
    "sound",
)
LONGEST = 400


def named(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


NAMES = {named(path) for path in FILES}


def imports(path: Path) -> set[str]:
    """Modules of ours that ``path`` imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sfumato"):
            deep = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in NAMES else str(node.module) for name in deep}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("sfumato")}
    return found - {named(path)}


GRAPH = {named(path): imports(path) for path in FILES}


def floor(module: str) -> tuple[int, int]:
    """Floor of the house, then family within the systems."""
    parts = [*module.split("."), "", ""]
    if parts[1] in ("", "__main__"):
        return (7, 0)
    family = FAMILIES.index(parts[2]) if parts[1] == "systems" and parts[2] else 0
    return FLOORS.get(parts[1], 0), family


def test_no_module_imports_from_a_floor_above():
    bad = [
        f"{m} -> {t}"
        for m, targets in GRAPH.items()
        for t in targets
        if t != "sfumato" and floor(t) > floor(m)
    ]
    assert not bad, bad


def test_no_module_imports_in_circles():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for target in GRAPH.get(module, set()) - {"sfumato"}:
                visit(target, (*path, module))
            done.add(module)

    for module in GRAPH.keys() - {"sfumato"}:
        visit(module, ())


def test_every_file_opens_with_a_sentence():
    files = [
        *FILES,
        *ROOT.glob("tests/**/*.py"),
        *ROOT.glob("benchmarks/**/*.py"),
        *ROOT.glob("examples/**/*.py"),
    ]
    for path in files:
        text = (ast.get_docstring(ast.parse(path.read_text())) or "").strip()
        first = text.split("\n\n")[0]
        assert first.endswith((".", "?")), f"{path.relative_to(ROOT)} must open with one plain sentence"


def test_no_file_is_too_long():
    long = {named(path): n for path in FILES if (n := len(path.read_text().splitlines())) > LONGEST}
    assert not long, f"longer than {LONGEST} lines: {long}"


def test_nothing_below_apps_prints_and_nothing_unpickles():
    banned = (
        "torch.load(",
        "pickle.load",
        "import pickle",
        "torchvision\n",
        "import torchvision",
        "strict=False)  # weights",
    )
    for path in FILES:
        text = path.read_text()
        assert not [word for word in banned if word in text and "weights_only=True" not in text], path


def test_every_system_file_is_in_the_table():
    listed = {target.partition(":")[0] for target in SYSTEMS.values()}
    for path in (PACKAGE / "systems").glob("*/*.py"):
        if path.name != "__init__.py" and _defines_presets(path):
            assert named(path) in listed, (
                f"{named(path)} defines a system that sfumato.registry does not list"
            )


def _defines_presets(path: Path) -> bool:
    assigned = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Assign)]
    return any(
        isinstance(t, ast.Attribute) and t.attr == "presets" for node in assigned for t in node.targets
    )


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_loads_and_its_facts_match_its_presets(name):
    system = find(name, SYSTEMS, "system")
    assert issubclass(system, System)
    file = PACKAGE.parent / Path(*SYSTEMS[name].partition(":")[0].split(".")).with_suffix(".toml")
    facts = tomllib.loads(file.read_text())
    assert {"title", "sentence", "paper", "year", "presets", "bibtex"} <= facts.keys(), file
    assert [p["name"] for p in facts["presets"]] == list(system.presets), file
    assert all(preset.data.split(":")[0] in DATASETS for preset in system.presets.values())


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_loads(name):
    assert find(name, DATASETS, "dataset").__doc__
