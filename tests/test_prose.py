"""What the documents say is so: commands parse, cheap ones run, pages are current, links lead somewhere."""

from __future__ import annotations

import itertools
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import sfumato
from sfumato.apps import docs, facts
from sfumato.apps.cli import main, parse
from sfumato.apps.settings import override
from sfumato.apps.verbs import VERBS, module_of
from sfumato.registry import SYSTEMS, find

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()
CHEAP = ("list", "describe", "cite", "doctor")


def commands(text: str) -> list[str]:
    """The sfumato commands in fenced blocks and code spans."""
    fenced = [line for block in re.findall(r"```sh\n(.*?)```", text, re.S) for line in block.splitlines()]
    spans = re.findall(r"`(sfumato [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    return [" ".join(line.split()) for line in (*fenced, *spans) if line.startswith("sfumato ")]


def every_command() -> list[str]:
    found = [command for page in PAGES for command in commands(page.read_text())]
    found += [
        f["command"]
        for name in SYSTEMS
        for p in facts.system(name).presets
        for f in p.figures
        if "command" in f
    ]
    for verb in VERBS:
        found += re.findall(r"(?:Example|with): (sfumato .*)", module_of(verb).Options.__doc__)
    found += re.findall(r"^ +(sfumato .*?)(?:   .*)?$", sfumato.apps.cli.TOUR, re.M)
    return [part.strip() for line in dict.fromkeys(found) for part in line.split("&&") if "sfumato" in part]


@pytest.mark.parametrize("command", every_command())
def test_every_command_in_the_documents_can_be_typed(command, capsys):
    words = shlex.split(command.partition(" > ")[0].partition(" >> ")[0], comments=True)
    words = words[words.index("sfumato") + 1 :]
    if words and words[0] in CHEAP and not words[-1].isupper() and "runs/" not in command:
        assert main(words) == 0
        assert capsys.readouterr().out
    elif words and "--help" in words:
        assert main(words) == 0
    elif words and words[0] in VERBS:
        options = parse(words[0], words[1:])
        if words[0] == "train" and options.system in SYSTEMS:
            presets = find(options.system, SYSTEMS, "system").presets
            preset = options.preset or next(iter(presets))
            if preset != "PRESET":
                override(presets[preset].config, options.settings, options.system)


def test_generated_pages_are_current():
    stale = [path for path, text in docs.pages().items() if not path.exists() or path.read_text() != text]
    assert not stale, "run 'make docs'"


def test_every_system_has_a_picture():
    without = [name for name in SYSTEMS if not (docs.PICTURES / f"{name}.png").exists()]
    assert not without, "draw with 'python -m benchmarks.pictures NAME=RUN'"


def test_the_readme_lists_every_system():
    assert all(f"docs/systems/{name}.md" in README for name in SYSTEMS)


def test_links_between_documents_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} points to {target}"


def test_make_has_the_targets_that_are_named():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"`make (\w+)`|^make (\w+)$", "\n".join(page.read_text() for page in PAGES), re.M))
    for target in {a or b for a, b in named}:
        assert re.search(rf"^{target}:", makefile, re.M), target
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_every_direct_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[\[<>=~ ]", line)[0] for line in asked} - {"sfumato"}
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    assert names <= pinned.keys()
    assert names - {"sfumato"} <= set(
        re.findall(r"[\w-]+", (ROOT / "docs/decisions/dependencies.md").read_text())
    )


def test_versions_agree():
    version = sfumato.__version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == version
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_licence_is_whole():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_python_in_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(compile(block, "README.md", "exec"), {})
    assert len(list((tmp_path / "out").glob("*.png"))) == 5
