"""The verb ``completion``: teach the shell our commands and options."""

from __future__ import annotations

import io
from contextlib import redirect_stdout, suppress
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

    shell: Positional[Literal["bash", "zsh", "fish"]]
    """Whose script to print."""


def main(options: Options) -> int:
    """Let tyro write the script from the options of all verbs; as JSON, the script is one string."""
    arguments, printed = ["--tyro-print-completion", options.shell], io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):  # as tyro ends when it has printed
        tyro.cli(everything(), prog="sfumato", args=arguments, config=MARKERS[:2])
    script = printed.getvalue().rstrip("\n")
    options.talk.line(script)
    options.talk.result({"shell": options.shell, "script": script})
    return 0
