"""Your own pictures: a folder of JPEG, PNG or WebP files, with captions or classes if you like."""

from __future__ import annotations

from pathlib import Path

from sfumato.data.labelled import check_split
from sfumato.data.pictures import MAX_BAD, MEMORY, Listed, Pictures
from sfumato.data.scan import scan
from sfumato.images import PictureError, measure

_SHOWN = 5


class Folder(Pictures):
    """The pictures of a folder, scaled and centre-cropped to squares.

    Captions come from ``a.txt`` beside ``a.jpg`` or from ``metadata.jsonl``, labels from class subfolders;
    both may exist. A batch has ``caption`` if every picture has one. Unreadable pictures are skipped and
    remembered in ``unreadable``; one found only when it is decoded is replaced, always by the next readable.
    Raises ``DataError`` for a folder without pictures, and if more than the share ``max_bad`` is unreadable.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        *,
        path: str | Path,
        max_bad: float = MAX_BAD,
        memory: int = MEMORY,
    ):
        check_split("folder", split)
        found = scan(Path(path), split)
        super().__init__(Path(path), size, found.entries, found.classes, max_bad=max_bad, memory=memory)

    def _promising(self, entry: Listed) -> bool:
        """Look at the header only: cheap, and finds most that is broken."""
        try:
            measure(entry.file())
        except PictureError as error:
            self._skip(entry, error.reason)
            return False
        return True

    def _lacking(self, field: str) -> str:
        if field == "caption":
            bare = [entry.name for entry in self._entries if entry.caption is None]
            shown = ", ".join(f"'{name}'" for name in bare[:_SHOWN])
            beside = Path(bare[0]).with_suffix(".txt").name
            return (
                f"Every picture needs a caption, but {len(bare)} of {len(self)} in '{self.path}' have none, "
                f"such as {shown}; write it into a text file beside the picture ('{beside}') "
                "or into metadata.jsonl: "
                f'{{"file_name": "{Path(bare[0]).name}", "text": "what it shows"}}.'
            )
        if field == "label":
            return (
                f"Every picture needs a class, but '{self.path}' has no class subfolders; "
                "sort all its pictures into two or more subfolders named after their classes."
            )
        fields = ", ".join(sorted(self.facts.fields))
        return f"The folder '{self.path}' has {fields}, but no {field}; choose other data."
