"""Run folders of these tests lie in memory where possible: they save hundreds of times, disks are slow."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")
ENOUGH = 32 << 20


def scratch() -> Iterator[Path]:
    """A new folder, in memory if possible, that goes away afterwards."""
    fits = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH
    with tempfile.TemporaryDirectory(dir=MEMORY if fits else None) as path:
        yield Path(path)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    yield from scratch()


@pytest.fixture(scope="module")
def module_path() -> Iterator[Path]:
    """A folder that the tests of one file share."""
    yield from scratch()
