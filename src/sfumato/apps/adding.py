"""Options with which verbs lay something beside a model for one run: LoRA files, words, a refiner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.errors import UsageError

if TYPE_CHECKING:
    from sfumato.core.system import System


@dataclass(frozen=True, kw_only=True)
class Adding:
    """Options of verbs that ask a text-to-image model."""

    lora: tuple[str, ...] = ()
    """LoRA files, each perhaps with its weight: FILE or FILE:0.8. They are merged for this run alone."""
    embedding: tuple[str, ...] = ()
    """Files of textual inversion, each perhaps with what to call its word: FILE or FILE:WORD."""
    refiner: str = ""
    """A model that denoises the end of the way, such as SDXL's refiner."""
    refine_at: float = 0.8
    """The share of the way after which the refiner takes over."""

    def added(self) -> dict[str, Any]:
        """What was added, as settings."""
        told: dict[str, Any] = {"lora": self.lora, "embedding": self.embedding, "refiner": self.refiner}
        if self.refiner:
            told["refine_at"] = self.refine_at
        return {name: value for name, value in told.items() if value}

    def take(self, system: System[Any], load: Callable[[str], System[Any]]) -> dict[str, Any]:
        """Give a system what was added; returns it as settings."""
        from sfumato.core.additions import Additions

        told = self.added()
        if told:
            system.take(
                Additions(
                    loras=tuple(_weighed(one) for one in self.lora),
                    embeddings=tuple(_called(one) for one in self.embedding),
                    tile=told.get("tile", False),
                    refiner=load(self.refiner) if self.refiner else None,
                    refine_at=self.refine_at,
                )
            )
        return told


@dataclass(frozen=True, kw_only=True)
class Tiling(Adding):
    """Options of verbs whose pictures may tile."""

    tile: bool = False
    """Make pictures that go on at the opposite edge, so that copies of them fit side by side."""

    def added(self) -> dict[str, Any]:
        return super().added() | ({"tile": True} if self.tile else {})


def _weighed(given: str) -> tuple[Path, float]:
    """A file and its weight, 1 if none is given."""
    name, _, weight = given.rpartition(":")
    if not name:
        return _file(given), 1.0
    try:
        return _file(name), float(weight)
    except ValueError:
        return _file(given), 1.0


def _called(given: str) -> tuple[Path, str]:
    """A file and what to call its word; empty if that is not said."""
    name, _, word = given.rpartition(":")
    if not name or Path(given).exists():
        return _file(given), ""
    return _file(name), word


def _file(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(f"There is no file '{name}'; give the path of one.")
    return path
