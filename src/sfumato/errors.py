"""The errors users see: each says what is wrong and what to do, and carries the exit code of its kind."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SfumatoError(Exception):
    """Anything the user can understand and mend. The command line prints it without a traceback."""

    exit_code = 1


class UsageError(SfumatoError):
    """The request itself is wrong: a name, a setting, a value."""

    exit_code = 2


class DataError(SfumatoError):
    """What was given to read (a picture, a folder, a checkpoint) cannot be used."""

    exit_code = 65


class DivergedError(SfumatoError):
    """Training produced NaN or infinity and could not be saved from it."""

    exit_code = 65


class MissingExtraError(SfumatoError):
    """An optional dependency is not installed."""

    exit_code = 69


class StorageError(SfumatoError):
    """The disk is full or cannot be written."""

    exit_code = 74


class BusyError(SfumatoError):
    """Somebody else holds the run folder."""

    exit_code = 75


def nearest(name: str, names: Iterable[str]) -> str:
    """Say what the user may have meant: ``"; did you mean 'ddpm'?"``, or the whole choice.

    >>> nearest("ddmp", ["ddpm", "ldm"])
    "; did you mean 'ddpm'?"
    >>> nearest("zebra", ["ddpm", "ldm"])
    '; choose from ddpm, ldm'
    """
    choice = sorted(names)
    near = difflib.get_close_matches(name, choice, n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; choose from {', '.join(choice)}"
