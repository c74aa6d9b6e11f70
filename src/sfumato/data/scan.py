"""What lies in a folder of pictures: files, captions and classes, found without decoding anything."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfumato.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
METADATA = "metadata.jsonl"
GROUND_TRUTH = "gt.txt"
"""What datasets of writing bring along: on every line a picture's name, a tabulator, and what it says."""
PARTS = {"train": ("train",), "test": ("test", "validation", "valid", "val")}
"""Subfolders that hold a split; the first that exists counts."""
_IGNORED = "__MACOSX"


@dataclass(frozen=True)
class Entry:
    """One picture as the folder knows it."""

    name: str
    """Path below the folder, with forward slashes."""
    path: Path
    bytes: int
    changed: int
    """When, in nanoseconds."""
    caption: str | None
    label: int | None

    def file(self) -> Path:
        """What to decode."""
        return self.path


@dataclass(frozen=True)
class Scan:
    """All pictures of one split, in the order of their names."""

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    others: Mapping[str, int]
    """How many files of which other kinds."""
    strays: tuple[str, ...]
    """Pictures that metadata.jsonl or gt.txt names but the folder lacks."""


def scan(folder: Path, split: str = "train") -> Scan:
    """List the pictures of a folder, of its subfolder ``train`` or ``test`` where it is divided so.

    A folder that is not divided serves whole for every split. Classes are subfolders, if every picture lies
    in one and there are two or more. Raises ``DataError`` for a folder without pictures and for captions that
    cannot be read.
    """
    root = splits(folder).get(split)
    if root is None:
        raise DataError(
            f"'{folder}' has no pictures for '{split}'; add a subfolder '{split}' or choose another."
        )
    files = list(listed(root))
    names = _pictures(files)
    known = {*names, *(_beside(name) for name in names)}
    others = (name for name in files if name not in known and Path(name).name not in _READERS)
    kinds = Counter(Path(name).suffix.lower() or "no suffix" for name in others)
    if not names:
        raise DataError(_no_pictures(root, kinds))
    captions, strays = _captions(root, files, names)
    classes = _classes(folder)
    labels = {name: i for i, name in enumerate(classes)}
    entries = tuple(_entry(root, name, captions, labels) for name in names)
    return Scan(entries, classes, dict(kinds.most_common()), tuple(strays))


def pictures(folder: Path) -> list[str]:
    """Names of all pictures below a folder in a fixed order; a ``DataError`` if there are none."""
    files = list(listed(folder))
    if not (names := _pictures(files)):
        raise DataError(
            _no_pictures(folder, Counter(Path(name).suffix.lower() or "no suffix" for name in files))
        )
    return names


def _pictures(files: Sequence[str]) -> list[str]:
    return [name for name in files if name.lower().endswith(SUFFIXES)]


def _entry(root: Path, name: str, captions: Mapping[str, str], labels: Mapping[str, int]) -> Entry:
    path = root / name
    try:
        status = path.stat()
        size, changed = status.st_size, status.st_mtime_ns
    except OSError:  # a link to nothing: reading it will say so
        size, changed = 0, 0
    return Entry(name, path, size, changed, captions.get(name), labels.get(name.partition("/")[0]))


def splits(folder: Path) -> dict[str, Path]:
    """Where the pictures of each split lie: in subfolders of these names, if all are, or else together."""
    if not folder.exists():
        raise DataError(f"There is no folder '{folder}'; give the path of a folder that holds pictures.")
    if not folder.is_dir():
        raise DataError(f"'{folder}' is a file; give the path of the folder that holds your pictures.")
    names = {p.name for p in folder.iterdir() if p.is_dir() and not _hidden(p.name)}
    loose = any(p.is_file() and p.suffix.lower() in SUFFIXES for p in folder.iterdir())
    known = {name for choice in PARTS.values() for name in choice}
    if loose or "train" not in names or not names <= known:
        return dict.fromkeys(PARTS, folder)
    parts = {split: next((name for name in choice if name in names), None) for split, choice in PARTS.items()}
    return {split: folder / name for split, name in parts.items() if name}


def listed(root: Path) -> Iterator[str]:
    """Names of all visible files below a folder in a fixed order, following links but never in circles."""

    def refuse(error: OSError) -> None:
        raise DataError(f"Cannot read folder '{error.filename}': {error.strerror}; change its permissions.")

    found, seen = [], set()
    for folder, below, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not _hidden(name))
        place = Path(folder).relative_to(root)
        found += [(place / name).as_posix() for name in names if _readable(Path(folder) / name)]
    yield from sorted(found)


def _readable(path: Path) -> bool:
    """Whether a visible name stands for a file, not for a pipe that would never end."""
    return not _hidden(path.name) and (path.is_file() or not path.exists())


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == _IGNORED


def _classes(folder: Path) -> tuple[str, ...]:
    """Names of the class subfolders over all splits, so that a label means the same in each."""
    names = [name for root in set(splits(folder).values()) for name in _pictures(list(listed(root)))]
    tops = {name.partition("/")[0] for name in names}
    return tuple(sorted(tops)) if all("/" in name for name in names) and len(tops) > 1 else ()


def _captions(root: Path, files: Sequence[str], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Captions by picture, from text files beside them or lists such as metadata.jsonl; what those name in
    vain."""
    captions: dict[str, str] = {}
    for name in files:
        if read := _READERS.get(Path(name).name):
            captions |= read(root, name)
    strays = sorted(captions.keys() - set(names))
    texts = set(files)
    for name in names:
        if (beside := _beside(name)) in texts:
            captions[name] = _tidy(_text(root / beside))
    return {name: text for name in names if (text := captions.get(name, ""))}, strays


def _beside(name: str) -> str:
    """Name of the text file that may hold a picture's caption."""
    return name[: name.rindex(".")] + ".txt"


def read_metadata(root: Path, name: str) -> dict[str, str]:
    """Read a metadata.jsonl: one JSON object a line, with file_name, relative to the file, and text."""
    place, found = Path(name).parent, {}
    for number, line in enumerate(_text(root / name).splitlines(), 1):
        if not line.strip():
            continue
        where = f"Line {number} of '{root / name}'"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where} is not JSON ({error.msg}); {_EXAMPLE}.") from error
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            raise DataError(f"{where} has no file_name; {_EXAMPLE}.")
        text = row.get("text")
        if not isinstance(text, str | None):
            raise DataError(f"{where} has a text that is not a string; {_EXAMPLE}.")
        picture = Path(os.path.normpath(place / row["file_name"])).as_posix()
        if picture in found:
            raise DataError(f"{where} names '{row['file_name']}' again; keep one line a picture.")
        found[picture] = _tidy(text or "")
    return found


def _ground_truth(root: Path, name: str) -> dict[str, str]:
    """Read a gt.txt: a picture's name, relative to the file, a tabulator and its text on every line."""
    place, found = Path(name).parent, {}
    for number, line in enumerate(_text(root / name).splitlines(), 1):
        if not line.strip():
            continue
        file, tab, text = line.partition("\t")
        if not tab:
            raise DataError(
                f"Line {number} of '{root / name}' has no tabulator between picture and text; "
                "write a.png, a tabulator, and what is written in it."
            )
        found[Path(os.path.normpath(place / file.strip())).as_posix()] = _tidy(text)
    return found


_READERS = {METADATA: read_metadata, GROUND_TRUTH: _ground_truth}
"""Lists of captions, by the names of their files."""


_EXAMPLE = 'write one object a line, such as {"file_name": "a.jpg", "text": "a red circle"}'


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"'{path}' is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except OSError as error:
        raise DataError(f"Cannot read '{path}': {error.strerror}; change its permissions.") from error


def _tidy(text: str) -> str:
    return " ".join(text.split())


def _no_pictures(root: Path, kinds: Counter[str]) -> str:
    wanted = ", ".join(SUFFIXES)
    if not kinds:
        return f"The folder '{root}' is empty; put pictures ({wanted}) into it."
    held = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    return (
        f"The folder '{root}' holds no pictures ({wanted}), only {held}; convert them or give another folder."
    )
