"""One tiny run, trained through the command line, that the tests of the commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.apps.cli import main

TINY = ("--batch", "8", "--network.widths", "16", "32", "--precision", "fp32", "--previews", "1", "--quiet")


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A run of ddpm on digits by label, two steps long: it knows nothing, but all its files are there."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", "ddpm", "digits-by-label", "--out", str(out), "--steps", "2", *TINY]) == 0
    return out
