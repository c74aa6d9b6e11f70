"""The verb ``cite``: what to put into a bibliography."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from sfumato import __version__
from sfumato.apps import facts
from sfumato.apps.talk import Common
from sfumato.registry import SYSTEMS

OURS = f"""\
@software{{sfumato,
  title = {{sfumato: generative systems beside their papers}},
  author = {{{{The sfumato authors}}}},
  version = {{{__version__}}},
  year = {{2026}},
  license = {{Apache-2.0}}
}}"""


@dataclass(frozen=True)
class Options(Common):
    """Print the BibTeX entries to cite for a run, a model or a system.

    Example: sfumato cite runs/digits > references.bib
    """

    of: Annotated[Positional[str], tyro.conf.arg(metavar="NAME")]
    """A run folder, a model that comes with the package, or a system."""


def main(options: Options) -> int:
    """Print the entries, ours last."""
    entries = [facts.system(name).bibtex for name in systems_of(options.of)]
    entries = [*dict.fromkeys(entries), OURS]
    options.talk.result({"of": options.of, "bibtex": entries})
    options.talk.line("\n\n".join(entries))
    return 0


def systems_of(name: str) -> list[str]:
    """The systems that a run rests on, its own first."""
    if name in SYSTEMS and not Path(name).is_dir():
        return [name]
    shipped = facts.models()
    if name not in shipped and not Path(name).is_dir():
        facts.system(name)
    folder = shipped.get(name, Path(name))
    told = facts.read_config(folder)
    base = told.get("base")
    below = systems_of(str(folder / base["path"])) if base and (folder / base["path"]).is_dir() else []
    return [str(told["system"]), *below]
