"""What a run folder is a run of, as its config.json says it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sfumato.config import from_dict, to_dict
from sfumato.core import durable
from sfumato.core.system import TrainConfig
from sfumato.errors import DataError

FORMAT = 1
"""Of run folders and their checkpoints."""


@dataclass(frozen=True)
class Recipe:
    """What a run folder is a run of: enough to build the system and to go on training it."""

    system: str
    """Its name in the registry."""
    config: Mapping[str, Any]
    """The system's configuration as plain values (``config.to_dict``)."""
    train: TrainConfig = TrainConfig()
    data: str = ""
    """A registered dataset or a folder of pictures."""
    size: int = 0
    """Height and width of the pictures, in pixels."""
    preset: str = ""
    base: Mapping[str, Any] | None = None
    """``{"path", "sha256"}`` of the model it builds on."""

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """What the file at ``path`` says; a ``DataError`` if it is damaged or of another format."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            number = found.pop("format")
        except (ValueError, KeyError, AttributeError) as error:
            raise DataError(f"{path} cannot be read: {error!r}. Restore it from a copy.") from error
        if number != FORMAT:
            raise DataError(
                f"{path} has format {number}, this sfumato reads {FORMAT}; use a matching version."
            )
        train = from_dict(TrainConfig, found.pop("train"), "train.")
        fields = {key: found[key] for key in cls.__dataclass_fields__.keys() & found.keys()}
        return cls(**fields, train=train)

    def write(self, path: Path) -> None:
        """Say it in the file at ``path``, in whose place an older one is never half a file."""
        head = {"format": FORMAT, "sfumato": version("sfumato")}
        durable.write_json(path, head | asdict(self) | {"train": to_dict(self.train)})
