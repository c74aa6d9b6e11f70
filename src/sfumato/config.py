"""Configurations are frozen dataclasses; this module turns them into JSON and back.

Only four kinds of value occur in a configuration: JSON scalars, tuples, nested configurations, and
unions of configurations. Every configuration is written with its class name under ``"class"`` (which no
field can be called), so reading never has to guess.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sfumato.errors import UsageError, nearest

C = TypeVar("C")

TAG = "class"


class ConfigError(UsageError):
    """A configuration that cannot be read; the message names the path and the nearest valid key."""


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a configuration into plain JSON values, tagging every configuration with its class."""
    out: dict[str, Any] = {TAG: type(config).__name__}
    return out | {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def from_dict(kind: type[C], data: Mapping[str, Any], path: str = "") -> C:
    """Read a configuration of class ``kind``; unknown keys and wrong types are a ``ConfigError``."""
    hints = get_type_hints(kind)
    for key in data.keys() - hints.keys() - {TAG}:
        raise ConfigError(f"{kind.__name__} has no setting '{path}{key}'{nearest(key, hints)}")
    if data.get(TAG, kind.__name__) != kind.__name__:
        raise ConfigError(f"'{path}{TAG}' must be {kind.__name__}, got {data[TAG]!r}")
    values = {key: _read(hints[key], value, f"{path}{key}") for key, value in data.items() if key != TAG}
    try:
        return kind(**values)
    except TypeError as error:
        raise ConfigError(f"{kind.__name__} at '{path}' is incomplete: {error}") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _read(hint: Any, value: Any, path: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _read_union(args, value, path)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"'{path}' must be a {getattr(hint, '__name__', hint)}, got {value!r}")
        return from_dict(hint, value, f"{path}.")  # type: ignore[arg-type]
    if origin is tuple:
        return _read_tuple(args, value, path)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"'{path}' must be one of {', '.join(map(repr, args))}, got {value!r}")
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"'{path}' must be {hint.__name__}, got {value!r}")
    return value


def _read_tuple(args: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"'{path}' must be a list, got {value!r}")
    kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
    if len(kinds) != len(value):
        raise ConfigError(f"'{path}' must have {len(kinds)} entries, got {value!r}")
    return tuple(_read(k, v, f"{path}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))


def _read_union(args: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in args:
        return None
    members: dict[str, Any] = {getattr(a, "__name__", ""): a for a in args if dataclasses.is_dataclass(a)}
    if not isinstance(value, Mapping):
        plain = [a for a in args if a is not type(None) and not dataclasses.is_dataclass(a)]
        if not plain:
            raise ConfigError(f"'{path}' must be one of {', '.join(members)}, got {value!r}")
        exact = [a for a in plain if type(value) is a]
        return _read((exact or plain)[0], value, path)
    if value.get(TAG) not in members:
        raise ConfigError(f"'{path}.{TAG}' must be one of {', '.join(members)}, got {value.get(TAG)!r}")
    return from_dict(members[value[TAG]], value, f"{path}.")
