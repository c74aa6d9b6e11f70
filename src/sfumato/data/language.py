"""Which language a short text is in, by its script, its commonest words and its letters.

This is a small rule, not a trained classifier: alt texts are a few words long, and many hold no word that
tells. It says "nolang" then, as the third part of LAION-5B does. It knows one language or two of most scripts
and seventeen of the Latin one; the others (Norwegian, Catalan, Estonian ...) are taken for a neighbour or for
nothing. ``docs/curation.md`` says how often it errs. The words stand in ``language.txt``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from sfumato.errors import UsageError, nearest

NOLANG = "nolang"
"""Names, numbers, brands, single words: nothing tells the language."""
OTHER = "other"
"""Not English, but equally likely in several languages."""

_SCRIPTS = (
    ("HIRAGANA", "ja"), ("KATAKANA", "ja"), ("HANGUL", "ko"), ("CJK", "zh"), ("GREEK", "el"),
    ("CYRILLIC", "ru"), ("ARABIC", "ar"), ("HEBREW", "he"), ("DEVANAGARI", "hi"), ("THAI", "th"),
    ("BENGALI", "bn"), ("TAMIL", "ta"), ("TELUGU", "te"), ("GEORGIAN", "ka"), ("ARMENIAN", "hy"),
)  # fmt: skip
"""Scripts by the first word of their letters' names, and the language most written in them."""
_RELATIVES = {"ru": ("uk", frozenset("їєґі")), "ar": ("fa", frozenset("پچژگکی"))}
"""A second language of a script, and letters that only it has."""
_LATIN_ENDS = 0x24F

_LETTERS = {
    "de": "ß", "es": "ñ¿¡", "pt": "ãõ", "pl": "łąęśźżń", "cs": "ěřůďť", "hu": "őű", "tr": "ğ\u0131ş",
    "ro": "țăș", "da": "øæ", "sv": "å", "fr": "œçêèû",
    "vi": "đơưạảấầẩậắằẳặẹẻẽếềểễệỉịọỏốồổỗộớờởợụủứừửữựỳỵỷỹ",
}  # fmt: skip
"""Letters that hint at a language; those of several, such as "ö", are left out."""
_WORD = re.compile(r"(?<!\w)(?:[^\W\d_]'|[^\W\d_]+)(?!\d)")
"""Words, and single letters with an apostrophe as in "l'arbre"; not what stands against a digit."""
_LETTER, _MOST_LETTERS = 0.5, 2
_LEAST = 0.1
"""Evidence below which a text tells nothing."""
_MORE = "+"
"""Behind the name of a language: further words, which count only where no other language has them."""


def language(text: str) -> str:
    """The ISO 639-1 code of the language a text is most likely in; "other" if it is in one of several, none
    of them English, and "nolang" if nothing tells.

    >>> [language(text) for text in ("a dog on the beach", "ein Hund am Strand", "una casa", "IKEA BILLY 80")]
    ['en', 'de', 'other', 'nolang']
    """
    text = unicodedata.normalize("NFC", text).lower().replace("\u2019", "'")
    letters = [letter for letter in text if letter.isalpha()]
    if foreign := _by_script(letters):
        return foreign
    scores = dict.fromkeys(_LETTERS, 0.0) | dict.fromkeys(KNOWN, 0.0)
    for word in _WORD.findall(text):
        for code, weight in _TABLE.get(word, {}).items():
            scores[code] += weight
    for code, own in _LETTERS.items():
        scores[code] += _LETTER * min(_MOST_LETTERS, sum(letter in own for letter in letters))
    most = max(scores.values())
    likely = [code for code, score in scores.items() if score == most]
    if most < _LEAST or (len(likely) > 1 and "en" in likely):
        return NOLANG
    return likely[0] if len(likely) == 1 else OTHER


def _by_script(letters: Sequence[str]) -> str:
    """The language of a script other than Latin, if at least a third of the letters are in it."""
    names = (unicodedata.name(letter, "") for letter in letters if ord(letter) > _LATIN_ENDS)
    codes = (next((code for start, code in _SCRIPTS if name.startswith(start)), "") for name in names)
    counts = Counter(code for code in codes if code)
    if not counts or 3 * counts.total() < len(letters):
        return ""
    if counts["ja"]:  # one sign of its own among Chinese ones is enough
        return "ja"
    found = counts.most_common(1)[0][0]
    relative, own = _RELATIVES.get(found, ("", frozenset()))
    return relative if own & set(letters) else found


def checked_languages(names: Sequence[str]) -> tuple[str, ...]:
    """The names, if ``language`` ever gives them; else a ``UsageError`` with a suggestion."""
    for name in names:
        if name not in LANGUAGES:
            raise UsageError(f"Unknown language '{name}'{nearest(name, LANGUAGES)}")
    return tuple(names)


def _read() -> tuple[tuple[str, ...], dict[str, dict[str, float]]]:
    """The languages of the list, and what each word says for each: less, the more of them have it."""
    lines = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    lists = dict(line.split(": ", 1) for line in lines if not line.startswith("#"))
    words = {code: set(text.split()) for code, text in lists.items()}
    own = [code for code in words if not code.endswith(_MORE)]
    shared = Counter(word for code in own for word in words[code])
    table: dict[str, dict[str, float]] = defaultdict(dict)
    for code in own:
        for word in words[code]:
            table[word][code] = 1 / shared[word] ** 2
    for code in words.keys() - set(own):
        for word in words[code] - shared.keys():
            table[word][code.removesuffix(_MORE)] = 1.0
    return tuple(own), dict(table)


KNOWN, _TABLE = _read()
"""Languages of the Latin script that can be told apart."""
LANGUAGES = (
    *KNOWN,
    *dict.fromkeys(code for _, code in _SCRIPTS),
    *(code for code, _ in _RELATIVES.values()),
    OTHER,
    NOLANG,
)
"""Every answer there is."""
