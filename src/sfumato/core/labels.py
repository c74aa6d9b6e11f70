"""Labels as people give them: by name or by number."""

from __future__ import annotations

from collections.abc import Sequence

from sfumato.errors import UsageError, nearest


def number_of(name: int | str, classes: Sequence[str], what: str = "label") -> int:
    """Which label is meant, or what else classes are called; a name that is one counts as that name, even if
    it looks like a number. Capitals count only where they tell two names apart.

    Raises ``UsageError`` for what is none.

    >>> number_of("wavy", ("plain", "wavy")), number_of("0", ("plain", "wavy")), number_of("7", ("7", "8"))
    (1, 0, 0)
    >>> number_of("Wavy", ("plain", "wavy"))
    1
    """
    if isinstance(name, str) and name in classes:
        return list(classes).index(name)
    alike = [k for k, known in enumerate(classes) if known.casefold() == str(name).casefold()]
    if len(alike) == 1:
        return alike[0]
    if isinstance(name, str) and not name.isdigit():
        raise UsageError(f"Unknown {what} '{name}'{nearest(name, classes)}")
    if not 0 <= int(name) < len(classes):
        raise UsageError(
            f"{what.capitalize()} {name} is out of range; this model knows 0 to {len(classes) - 1}."
        )
    return int(name)
