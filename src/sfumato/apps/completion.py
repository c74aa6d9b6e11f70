"""The verb ``completion``: teach the shell our commands and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro
from tyro.conf import Positional

from sfumato.apps.talk import Common
from sfumato.apps.verbs import MARKERS, everything


@dataclass(frozen=True)
class Options(Common):
    """Print the completion script of a shell.

    Example: sfumato completion bash >> ~/.bashrc
    """

    shell: Positional[Literal["bash", "zsh", "tcsh"]]
    """Whose script to print."""


def main(options: Options) -> int:
    """Let tyro write the script from the options of all verbs."""
    script = ["--tyro-print-completion", options.shell]
    tyro.cli(everything(), prog="sfumato", args=script, config=MARKERS[:2])
    return 0
