"""The verb ``verify``: is every file of a run what it was when it was written?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from sfumato.apps.talk import Common, table
from sfumato.errors import DataError


@dataclass(frozen=True)
class Options(Common):
    """Check every part of a run folder against its checksum; nothing is changed.

    Example: sfumato verify runs/digits
    """

    run: Annotated[Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The run folder."""


def main(options: Options) -> int:
    """Tell what is whole and what is not; exit code 65 if something is not."""
    from sfumato.apps.load import folder_of
    from sfumato.core.checkpoint import RunFolder

    findings = RunFolder.open(folder_of(options.run)).verify()
    damaged = [finding for finding in findings if not finding.whole]
    options.talk.result({"whole": not damaged, "parts": [asdict(finding) for finding in findings]})
    rows = [("damaged" if f.reason else "whole", f.path, f.reason) for f in findings]
    options.talk.show(table(["", "part", ""], rows))
    return DataError.exit_code if damaged else 0
