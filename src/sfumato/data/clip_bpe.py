"""CLIP's tokenizer: byte-level byte-pair encoding, read from a vocabulary and a list of merges."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from sfumato.data.text import Encoded
from sfumato.errors import DataError

END = "</w>"
"""Marks the last symbol of a word."""
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")
NOT_SPACE = "\x1c\x1d\x1e\x1f"
"""Python takes these for white space; Unicode, and CLIP's regular expression, do not."""
FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
ONE_FILE = "tokenizer.json"
"""What transformers 5 writes in place of the first two."""
SPELT_OUT = {f"<|{name}|>": ("<|", name, "|>") for name in ("startoftext", "endoftext")}
"""Marks found too late to be marks: CLIP's expression keeps their parts apart from what follows."""
DEFAULTS = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
}
PIPELINE = (
    "NFC",
    r"\s+",
    "Lowercase",
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "ByteLevel",
)
"""What tokenizer.json must mention for its texts to be split as they are here."""
LONGEST_TEXT = 20_000
"""Characters; what a model reads ends after some 75 words, so the rest is cut before it costs time."""


@dataclass(frozen=True)
class Mark:
    """A token with a meaning of its own, found in a text before any other."""

    text: str
    normalized: bool = False
    """Whether it is looked for after lower-casing."""


class ClipTokenizer:
    """Radford et al. 2021, section 2.4: text in lower case, split into words, bytes merged by a learned list.

    Gives the same numbers as transformers' ``CLIPTokenizer``.
    """

    def __init__(self, files: Mapping[str, str]):
        """``files`` has the text of vocab.json and merges.txt, or of tokenizer.json; perhaps of others."""
        if ONE_FILE in files and "vocab.json" not in files:
            files = _unpacked(files)
        self.files = {name: files[name] for name in FILES if name in files}
        settings = _settings(files)
        added = {t["content"]: int(n) for n, t in settings.get("added_tokens_decoder", {}).items()}
        self.vocabulary: dict[str, int] = _json(files, "vocab.json") | added
        lines = [line for line in files.get("merges.txt", "").splitlines() if not line.startswith("#version")]
        merges = (tuple(line.split(" ")) for line in lines if line.strip())
        self._ranks: dict[tuple[str, ...], int] = {pair: rank for rank, pair in enumerate(merges)}
        marks = {kind: _mark(settings, kind) for kind in DEFAULTS}
        for kind, mark in marks.items():
            if mark.text not in self.vocabulary:
                raise DataError(
                    f"The tokenizer's {kind} '{mark.text}' is not in its vocabulary; "
                    "take all files of the tokenizer from the same model."
                )
        self.bos, self.eos, self.pad, self.unk = (self.vocabulary[mark.text] for mark in marks.values())
        marks |= {text: _checked(text, token) for text, token in _listed(settings).items()}
        self.length = _length(settings)
        self._words = {number: word for word, number in self.vocabulary.items()}
        raw = {mark.text for mark in marks.values() if not mark.normalized}
        self._raw = _finder(raw)
        self._normalized = _finder({mark.text for mark in marks.values()} - raw)
        self._learned: dict[str, tuple[int, ...]] = {}

    @classmethod
    def read(cls, folder: Path) -> ClipTokenizer:
        """From a folder as transformers saves it; a missing or broken file is a ``DataError``."""
        found = [name for name in (*FILES, ONE_FILE) if (folder / name).is_file()]
        for name in FILES[:2]:
            if name not in found and (ONE_FILE not in found or "vocab.json" in found):
                raise DataError(
                    f"'{folder}' has no {name}; a tokenizer has vocab.json and merges.txt, or {ONE_FILE}. "
                    "Copy them from the model that this one was made from."
                )
        try:
            return cls({name: (folder / name).read_text(encoding="utf-8") for name in found})
        except UnicodeDecodeError as error:
            raise DataError(f"A tokenizer file in '{folder}' is not UTF-8; fetch it again.") from error

    @classmethod
    def of(cls, merges: Sequence[str], length: int) -> ClipTokenizer:
        """The tokenizer of these merges ("left right"): symbols, merges and marks numbered as OpenAI does.

        >>> ClipTokenizer.of(["r e", "re d</w>"], length=4).encode(["red"]).tokens.tolist()
        [[514, 513, 515, 515]]
        """
        names = [*_SYMBOLS.values(), *(symbol + END for symbol in _SYMBOLS.values())]
        names += [merge.replace(" ", "") for merge in merges] + list(SPELT_OUT)
        vocabulary = {name: number for number, name in enumerate(names)}
        settings = DEFAULTS | {"model_max_length": length, "tokenizer_class": "CLIPTokenizer"}
        return cls(
            {
                "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
                "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n",
                "tokenizer_config.json": json.dumps(settings, indent=1),
            }
        )

    def padded(self, mark: str) -> ClipTokenizer:
        """The same with texts filled up with ``mark``."""
        settings = json.dumps(_settings(self.files) | {"pad_token": mark}, indent=1)
        kept = {name: self.files[name] for name in FILES[:2]}
        return type(self)(kept | {"tokenizer_config.json": settings})

    def knowing(self, word: str, numbers: Sequence[int]) -> ClipTokenizer:
        """The same with a word, in whatever case, that stands for these numbers."""
        other = copy(self)
        other._learned = self._learned | {word.lower(): tuple(numbers)}
        return other

    def write(self, folder: Path) -> None:
        """Its files; vocab.json and merges.txt even where it was read from another."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Numbers between a first and a last mark, filled up to ``length``; what is cut off is counted."""
        rows, dropped = [], []
        for text in texts:
            found = list(self.numbers(text[:LONGEST_TEXT]))
            rows.append(self.row(found[: self.room]))
            dropped.append(max(len(found) - self.room, 0) + len(text[LONGEST_TEXT:].split()))
        tokens = torch.tensor(rows, dtype=torch.long).view(len(rows), self.length)
        return Encoded(tokens, torch.tensor(dropped, dtype=torch.long))

    @property
    def room(self) -> int:
        """Most tokens of a text in a row."""
        return self.length - 2

    @property
    def first(self) -> int:
        """The place in a row where the text begins."""
        return 1

    @property
    def unknown_number(self) -> None:
        """Every byte has its token, so that nothing is unknown."""
        return None

    def row(self, numbers: Sequence[int]) -> list[int]:
        """Numbers between a first and a last mark, filled up to ``length``."""
        row = [self.bos, *numbers, self.eos]
        return row + [self.pad] * (self.length - len(row))

    def lost(self, text: str) -> str:
        """The end of a text that does not fit."""
        found = list(self.numbers(text[:LONGEST_TEXT]))
        return self.decode(found[self.length - 2 :]) + text[LONGEST_TEXT:]

    def decode(self, numbers: Sequence[int]) -> str:
        """About the text that gave these numbers: lower case, one space between words."""
        symbols = "".join(self._words[number] for number in numbers).replace(END, " ")
        raw = bytearray()
        for symbol in symbols:
            raw += b" " if symbol == " " else bytes([_BYTES[symbol]]) if symbol in _BYTES else symbol.encode()
        return raw.decode("utf-8", errors="replace").strip()

    def numbers(self, text: str) -> Iterator[int]:
        """Numbers of the text alone, without marks around it and of any length."""
        for part, is_learned in _split(text, _words_finder(self._learned)):
            if is_learned:
                yield from self._learned[part.lower()]
            else:
                yield from self._old(part)

    def _old(self, text: str) -> Iterator[int]:
        """Numbers of a text without words that were learned later."""
        for part, is_mark in _split(text, self._raw):
            if is_mark:
                yield self.vocabulary[part]
                continue
            for piece, is_found in _split(_normal(part), self._normalized):
                if is_found:
                    yield self.vocabulary[piece]
                else:
                    yield from (n for word in words(piece) for n in self._encode_word(word))

    def _encode_word(self, word: str) -> list[int]:
        parts = symbols(word)
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if best not in self._ranks:
                break
            parts = merged(parts, best)
        return [self.vocabulary.get(part, self.unk) for part in parts]


def symbols(word: str) -> list[str]:
    """One symbol a byte, the last one marked.

    >>> symbols("red")
    ['r', 'e', 'd</w>']
    """
    found = [_SYMBOLS[byte] for byte in word.encode()]
    found[-1] += END
    return found


def words(text: str) -> Iterator[str]:
    """Split a text as CLIP's regular expression does: contractions, runs of letters, single digits, runs of
    other characters; white space is dropped.

    >>> list(words("it's 42 cats!?"))
    ['it', "'s", '4', '2', 'cats', '!?']
    """
    kinds, start = [_kind(character) for character in text], 0
    while start < len(text):
        spelt = next((mark for mark in SPELT_OUT if text.startswith(mark, start)), None)
        if spelt is not None:
            yield from SPELT_OUT[spelt]
            start += len(spelt)
            continue
        short = next((c for c in CONTRACTIONS if text.startswith(c, start)), None)
        stop = start + (len(short) if short else 1)
        if short is None and kinds[start] in "LO":
            while stop < len(text) and kinds[stop] == kinds[start]:
                stop += 1
        if kinds[start] != "S":
            yield text[start:stop]
        start = stop


def _kind(character: str) -> str:
    """L letter, N number, S space, O other."""
    major = unicodedata.category(character)[0]
    if major in "LN":
        return major
    return "S" if character.isspace() and character not in NOT_SPACE else "O"


def _normal(text: str) -> str:
    """Composed, white space as single spaces, each character in lower case (a final sigma is none here)."""
    composed = unicodedata.normalize("NFC", text)
    spaced = re.sub(rf"[^\S{NOT_SPACE}]+", " ", composed)
    return "".join(character.lower() for character in spaced)


def merged(symbols: list[str], pair: tuple[str, ...]) -> list[str]:
    """The symbols with this pair joined wherever it stands."""
    found, i = [], 0
    while i < len(symbols):
        both = tuple(symbols[i : i + 2]) == pair
        found.append("".join(pair) if both else symbols[i])
        i += 2 if both else 1
    return found


def _split(text: str, finder: re.Pattern[str] | None) -> Iterator[tuple[str, bool]]:
    """The marks in a text, and what stands between them."""
    parts = finder.split(text) if finder else [text]
    return ((part, i % 2 == 1) for i, part in enumerate(parts) if part)


def _finder(marks: Set[str]) -> re.Pattern[str] | None:
    longest_first = sorted(marks, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})") if longest_first else None


def _words_finder(words: Iterable[str]) -> re.Pattern[str] | None:
    """Finds whole words in whatever case."""
    longest_first = sorted(words, key=len, reverse=True)
    whole = [
        (r"\b" if word[0].isalnum() else "") + re.escape(word) + (r"\b" if word[-1].isalnum() else "")
        for word in longest_first
    ]
    return re.compile(f"({'|'.join(whole)})", re.IGNORECASE) if whole else None


def _json(files: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        data = json.loads(files.get(name, "{}"))
    except json.JSONDecodeError as error:
        raise DataError(f"{name} of the tokenizer is not JSON ({error}); fetch it again.") from error
    if not isinstance(data, dict):
        raise DataError(f"{name} of the tokenizer must hold a JSON object; fetch it again.")
    return data


def _settings(files: Mapping[str, str]) -> dict[str, Any]:
    """As transformers reads them: the second file counts unless the first lists all added tokens."""
    settings = _json(files, "tokenizer_config.json")
    if "added_tokens_decoder" in settings:
        return settings
    return settings | _json(files, "special_tokens_map.json")


def _listed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {token["content"]: token for token in settings.get("added_tokens_decoder", {}).values()}


def _mark(settings: Mapping[str, Any], kind: str) -> Mark:
    token = settings.get(kind) or DEFAULTS[kind]
    text = token["content"] if isinstance(token, dict) else token
    return _checked(kind, _listed(settings).get(text, token))


def _checked(kind: str, token: str | Mapping[str, Any]) -> Mark:
    if isinstance(token, str):
        return Mark(token)
    for flag in ("lstrip", "rstrip", "single_word"):
        if token.get(flag):
            raise DataError(
                f"The tokenizer's {kind} sets '{flag}', which CLIP's does not; remove the setting."
            )
    return Mark(token["content"], bool(token.get("normalized", False)))


def _unpacked(files: Mapping[str, str]) -> dict[str, str]:
    """The files that say the same as tokenizer.json; a tokenizer that works otherwise is refused."""
    whole = _json(files, ONE_FILE)
    model, steps = whole.get("model", {}), json.dumps([whole.get("normalizer"), whole.get("pre_tokenizer")])
    strange = [part for part in PIPELINE if json.dumps(part)[1:-1] not in steps]
    if model.get("type") != "BPE" or model.get("end_of_word_suffix") != END or strange:
        raise DataError(
            f"{ONE_FILE} holds another kind of tokenizer than CLIP's; take it from the same model."
        )
    merges = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    added = {
        str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in whole["added_tokens"]
    }
    settings = _settings(files) | {"added_tokens_decoder": added}
    return {
        "vocab.json": json.dumps(model["vocab"], ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges]) + "\n",
        "tokenizer_config.json": json.dumps(settings, indent=1),
    }


def _length(settings: Mapping[str, Any]) -> int:
    """The file may say 1e30 for "no limit"; then CLIP's own length holds."""
    length = settings.get("model_max_length", 77)
    return int(length) if length < 10_000 else 77


def _alphabet() -> dict[int, str]:
    """Each byte as a printable character: itself where it is one, else from 256 upwards (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


_SYMBOLS = _alphabet()
_BYTES = {symbol: byte for byte, symbol in _SYMBOLS.items()}
