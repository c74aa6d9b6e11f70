"""Writes the pages of the systems and the README's table from the code: ``python -m sfumato.apps.docs``."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sfumato.apps import facts
from sfumato.apps.facts import PresetFacts, SystemFacts
from sfumato.apps.talk import write
from sfumato.apps.verbs import VERBS, module_of
from sfumato.registry import SYSTEMS

ROOT = Path(__file__).parents[3]
"""The repository: documents are written in a checkout, not in an installed package."""
GALLERY = """\
<!-- Written by `make docs` from the code and the pictures in docs/pictures; edit those. -->
# Gallery

Made by the systems themselves; each page says with which command, in which time, and how good they are.
{body}"""

PICTURES = ROOT / "docs" / "pictures"

PAGE = """\
<!-- Written by `make docs` from the code and {toml}; edit those. -->
# {name}: {title}

{sentence}
{picture}
{paper}

Read it beside the paper: [{file}](../../{file}).

## Equations

```text
{equations}
```

## Presets

| preset | data | minutes | machine | train it |
|---|---|---|---|---|
{presets}

`{verb} --help` lists all settings with these values.

## Figures

{figures}
{models}
## Settings

Options of `{options}`; those inside `network`, `optim` and the like are reached with a dot
(`--optim.lr`), and one that is called like an option of `train` itself as `--system.NAME`.

{settings}

## Cite

```bibtex
{bibtex}
```
"""


def main() -> int:
    """Write what is not current."""
    for path, text in pages().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            write(str(path.relative_to(ROOT)))
    return 0


def pages() -> dict[Path, str]:
    """Every generated document: path and text."""
    out = {ROOT / "docs" / "systems" / f"{name}.md": page(facts.system(name)) for name in SYSTEMS}
    readme = ROOT / "README.md"
    tables = {"systems": _systems(), "commands": _commands()}
    return out | {
        ROOT / "docs" / "gallery.md": gallery(),
        readme: with_tables(readme.read_text(encoding="utf-8"), tables),
    }


def page(told: SystemFacts) -> str:
    """The page of one system."""
    file = told.file.relative_to(ROOT).as_posix()
    return PAGE.format(
        toml=f"{told.name}.toml",
        name=told.name,
        title=told.title,
        sentence=told.sentence,
        picture=_picture(told),
        paper=_paper(told),
        file=file,
        equations="\n".join(told.equations),
        presets="\n".join(_preset(told, preset) for preset in told.presets),
        verb=told.verb,
        options=told.verb if told.use else f"sfumato train {told.name} PRESET",
        figures=_figures(told),
        models=_models(told),
        settings="\n".join(settings(told.file)),
        bibtex=told.bibtex,
    )


def _picture(told: SystemFacts) -> str:
    """Its picture NAME.png, and after it those called NAME-WORD.png, which show one of its figures."""
    paths = [path for path in (PICTURES / f"{told.name}.png",) if path.exists()]
    paths += sorted(PICTURES.glob(f"{told.name}-*.png"))
    return "".join(f"\n![Pictures made by {told.name}](../pictures/{path.name})\n" for path in paths)


def gallery() -> str:
    """One page with every picture there is: systems by family, then the models that come along."""
    parts: list[str] = []
    for family, members in facts.by_family().items():
        shown = [
            f"\n### [{told.name}](systems/{told.name}.md): {told.title}\n\n{told.sentence}\n"
            f"\n![Pictures made by {told.name}](pictures/{told.name}.png)\n"
            for told in members
            if (PICTURES / f"{told.name}.png").exists()
        ]
        parts += [f"\n## {family}\n", *shown] if shown else []
    parts.append("\n## Models that come with the package\n")
    return GALLERY.format(body="".join([*parts, *(_model(*entry) for entry in facts.models().items())]))


def _model(name: str, folder: Path) -> str:
    card = f"../{folder.relative_to(ROOT).as_posix()}/README.md"
    system = facts.read_config(folder)["system"]
    picture = (
        f"\n![Pictures made by {name}](pictures/{name}.png)\n" if (PICTURES / f"{name}.png").exists() else ""
    )
    return f"\n### {name}\n\nA trained [{system}](systems/{system}.md); [its card]({card}).\n{picture}"


def _paper(told: SystemFacts) -> str:
    title = f"[{told.paper}]({told.link})" if told.link else told.paper
    return f"Source: {told.authors}: {title}, {told.year}."


def _preset(told: SystemFacts, preset: PresetFacts) -> str:
    minutes = "not measured" if preset.minutes is None else f"{preset.minutes:g}"
    data = " --data DIR" if preset.data == "folder" else ""
    command = f"`{told.use or f'sfumato train {told.name} {preset.name}{data}'}`"
    return _line(preset.name, preset.data, minutes, preset.machine, command)


def _figures(told: SystemFacts) -> str:
    lines = [_figure(preset, figure) for preset in told.presets for figure in preset.figures]
    if not lines:
        return "None measured yet."
    head = ["| preset | figure | value | n | control | command |", "|---|---|---|---|---|---|"]
    return "\n".join(head + lines)


def _figure(preset: PresetFacts, figure: Mapping[str, Any]) -> str:
    cells = [str(figure.get(key, "")) for key in ("name", "value", "n", "control")]
    command = figure.get("command", "")
    return _line(preset.name, *cells, f"`{command}`" if command else "")


def _models(told: SystemFacts) -> str:
    """The models of this system that come with the package, by their cards."""
    lines = [
        f"- `{name}` comes along; [its card](../../{folder.relative_to(ROOT).as_posix()}/README.md)."
        for name, folder in facts.models().items()
        if facts.read_config(folder)["system"] == told.name
    ]
    return "\n## Models\n\n" + "\n".join(lines) + "\n" if lines else ""


def settings(file: Path) -> Iterator[str]:
    """The settings of a system, from its configuration class: names, defaults and what they mean."""
    yield "| setting | default | meaning |"
    yield "|---|---|---|"
    yield from _fields(file, "").values()


def _fields(file: Path, name: str) -> dict[str, str]:
    """One line a field of the class called ``name``, or of the first one that ends in Config; the fields of
    classes it builds on come first, with its own defaults."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    classes = (node for node in body if isinstance(node, ast.ClassDef))
    kind = next(node for node in classes if node.name.endswith("Config") and name in ("", node.name))
    found: dict[str, str] = {}
    for base in kind.bases:
        for node in body:
            if isinstance(node, ast.ImportFrom) and ast.unparse(base) in [alias.name for alias in node.names]:
                path = ROOT / "src" / Path(*str(node.module).split("."))
                found |= _fields(path.with_suffix(".py"), ast.unparse(base))
    for node, after in zip(kind.body, [*kind.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            field = ast.unparse(node.target)
            default = ast.unparse(node.value) if node.value is not None else ""
            meaning = _meaning(after) or found.get(field, " | ").rpartition(" | ")[2].removesuffix(" |")
            found[field] = _line(f"`--{field.replace('_', '-')}`", f"`{default}`", meaning)
    return found


def _meaning(node: ast.stmt | None) -> str:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return " ".join(str(node.value.value).split()) if is_text else ""  # type: ignore[union-attr]


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def with_tables(readme: str, tables: Mapping[str, str]) -> str:
    """The README with what stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` as it is now."""
    for name, table in tables.items():
        start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        head, _, rest = readme.partition(start)
        readme = f"{head}{start}\n{table}\n{end}{rest.partition(end)[2]}"
    return readme


def _systems() -> str:
    """All systems, a table a family."""
    parts = []
    for family, members in facts.by_family().items():
        lines = [
            _line("system", "what it is", "paper", "presets (minutes on two cores)"),
            "|---|---|---|---|",
        ]
        for told in members:
            presets = ", ".join(_short(preset) for preset in told.presets)
            paper = f"[{told.year}]({told.link})" if told.link else str(told.year)
            lines.append(_line(f"[{told.name}](docs/systems/{told.name}.md)", told.sentence, paper, presets))
        parts.append(f"### {family}\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _commands() -> str:
    """All verbs, with an example each."""
    lines = [_line("command", "what it does", "for example"), "|---|---|---|"]
    for name, verb in VERBS.items():
        example = re.search(r"Examples?:\s+(.*)", module_of(name).Options.__doc__)
        lines.append(_line(f"`{name}`", verb.sentence, f"`{example[1]}`" if example else ""))
    return "\n".join(lines)


def _short(preset: PresetFacts) -> str:
    return preset.name if preset.minutes is None else f"{preset.name} ({preset.minutes:g})"


if __name__ == "__main__":
    sys.exit(main())
