"""What an evaluation found: rows with spread and controls, as text and JSON, and the pictures to show."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

Better = Literal["low", "high"]


@dataclass(frozen=True)
class Row:
    """One measure: its value, how sure it is, and what it is to be compared with."""

    metric: str
    value: float
    n: int
    """Generated pictures it was measured on."""
    space: str
    better: Better
    spread: float | None = None
    spread_of: str = ""
    """What varied: bootstraps, subsets, splits, or "standard error" of a share or mean."""
    real: float | None = None
    """The same measure of held-out real pictures in place of generated ones: as good as can be hoped for."""
    control: float | None = None
    """The same measure of an imitation that is known to be worthless."""
    limit: float | None = None
    """What a gate asks for."""

    @property
    def passed(self) -> bool | None:
        """Whether the gate is passed; None without one."""
        if self.limit is None:
            return None
        return self.value <= self.limit if self.better == "low" else self.value >= self.limit


@dataclass(frozen=True)
class Pairs:
    """The generated pictures nearest to training pictures, beside these."""

    generated: Float[Tensor, "n c h w"]
    training: Float[Tensor, "n c h w"]
    distance: Float[Tensor, " n"]


@dataclass(frozen=True)
class Report:
    """What was measured, and some of the pictures it was measured on."""

    model: str
    data: str
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    sheet: Float[Tensor, "n c h w"]
    pairs: Pairs
    answers: tuple[tuple[str, Float[Tensor, "m _ _ _"]], ...] = ()
    """Of systems that answer pictures with pictures: what was given, made and wanted, by name."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return to_json(self.model, self.data, self.rows) | {"warnings": list(self.warnings)}

    def table(self) -> list[tuple[str, ...]]:
        """Head and lines of text: measure, value, real pictures, control, limit, n."""
        return to_table(self.rows)


def to_json(model: str, data: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Measures of a model on data as plain values."""
    told = [dataclasses.asdict(row) | {"passed": row.passed} for row in rows]
    return {"model": model, "data": data, "rows": told}


def to_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Measures as head and lines of text."""
    head = ("measure", "value", "real pictures", "control", "asked", "n")
    return [head, *(_line(row) for row in rows)]


def _line(row: Row) -> tuple[str, ...]:
    value = number(row.value) if row.spread is None else f"{number(row.value)} ± {number(row.spread)}"
    sign = "<=" if row.better == "low" else ">="
    asked = "" if row.limit is None else f"{sign} {number(row.limit)} {'passed' if row.passed else 'FAILED'}"
    return row.metric, value, number(row.real), number(row.control), asked, str(row.n)


def number(x: float | None) -> str:
    """Three digits that matter, nothing for nothing.

    >>> number(0.91749), number(1234.5), number(-0.00012), number(None)
    ('0.917', '1234', '-0.000', '')
    """
    if x is None:
        return ""
    return f"{x:.3f}" if abs(x) < 10 else f"{x:.4g}"
