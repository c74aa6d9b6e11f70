"""Settings of a system as they are typed: ``--network.channels 64``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tyro

from sfumato.apps.verbs import MARKERS
from sfumato.errors import UsageError, nearest


def override(config: Any, settings: Sequence[str], what: str) -> Any:
    """A configuration with ``--network.channels 64`` and the like applied.

    A setting called like an option of ``train`` itself is reached as ``--system.steps``.
    """
    settings = [
        word.replace("--system.", "--", 1) if word.startswith("--system.") else word for word in settings
    ]
    known = _flags(leaves(config))
    for flag in (word.partition("=")[0] for word in settings if word.startswith("--")):
        name = flag[2:].replace("_", "-")
        if name not in known:
            words = sorted(known | TRAINING)
            raise UsageError(f"'{flag}' is no setting of {what}{_hint(name, words)}")
    if not settings:
        return config
    try:
        return tyro.cli(type(config), default=config, args=settings, prog=f"sfumato {what}", config=MARKERS)
    except SystemExit as stop:  # tyro has said on stderr which; whoever called from Python goes on.
        raise UsageError(f"A setting of {what} has a value that it cannot have") from stop


def _flags(settings: Mapping[str, Any]) -> set[str]:
    """What may be typed: what is true can be made false by "no-" before its own name.

    >>> sorted(_flags({"optim.lr": 0.1, "network.affine": True}))
    ['network.affine', 'network.no-affine', 'optim.lr']
    """
    split = [(*name.rpartition("."), value) for name, value in settings.items()]
    return {*settings, *(f"{head}{dot}no-{last}" for head, dot, last, value in split if value is True)}


TRAINING = frozenset(
    {
        *("steps", "batch", "accumulate", "seed", "precision", "size", "data"),
        *("source", "target", "characters", "out", "resume", "max-bad", "previews", "tensorboard", "device"),
    }
)
"""Options of the verb itself, for suggestions."""


def _hint(name: str, words: list[str]) -> str:
    hint = nearest(name, words)
    return hint.replace("'", "'--", 1) if "did you mean" in hint else "; --help lists all settings"


def leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """All settings by the names under which they are typed.

    >>> from sfumato.core.system import TrainConfig
    >>> sorted(leaves(TrainConfig()))[:2]
    ['accumulate', 'batch']
    """
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), prefix + field.name.replace("_", "-")
        found |= leaves(value, f"{name}.") if dataclasses.is_dataclass(value) else {name: value}
    return found
