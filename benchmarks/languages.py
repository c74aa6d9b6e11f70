"""How often the language of a short text is told, and told wrongly: messages of Django's translations.

They are of 3 to 12 words, as alt texts are. The lists of words were made without looking at them; the least
evidence that counts was set on them.

Example: pip download --no-deps Django && python -m benchmarks.languages Django*.whl
"""

from __future__ import annotations

import argparse
import re
import zipfile
from collections import Counter, defaultdict

from sfumato.data.language import LANGUAGES, language

PARTS = ("conf", "contrib/admin", "contrib/auth", "contrib/admindocs")
MESSAGE = re.compile(r'msgid ((?:"[^\n]*"\n)+)msgstr ((?:"[^\n]*"\n)+)')
LENGTH = range(3, 13)
UNKNOWN = ("ca", "et", "hr", "nb")
"""Catalan, Estonian, Croatian, Norwegian: languages that the rule has never heard of."""


def plain(quoted: str) -> str:
    """The text of a message, without markup and placeholders."""
    text = "".join(re.findall(r'"(.*)"', quoted))
    return re.sub(r"%\(\w+\)\w|%\w|<[^>]+>|\\n", " ", text)


def messages(wheel: str) -> dict[str, list[str]]:
    """Texts by language."""
    found: dict[str, list[str]] = defaultdict(list)
    english: set[str] = set()
    with zipfile.ZipFile(wheel) as files:
        for name in files.namelist():
            place = re.fullmatch(r"django/(.+)/locale/(\w+)/LC_MESSAGES/django\.po", name)
            code = place[2].removesuffix("_Hans") if place and place[1] in PARTS else ""
            if code not in (*LANGUAGES, *UNKNOWN):
                continue
            for said, translated in MESSAGE.findall(files.read(name).decode()):
                original, text = plain(said), plain(translated)
                if len(original.split()) in LENGTH and text.strip() and text != original:
                    english.add(original)
                    found[code].append(text)
    return dict(found) | {"en": sorted(english)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel")
    for code, texts in sorted(messages(parser.parse_args().wheel).items()):
        told = Counter(language(text) for text in texts)
        right, nothing, english = (told[key] / len(texts) for key in (code, "nolang", "en"))
        print(f"{code}  n {len(texts)}  right {right:.3f}  nolang {nothing:.3f}  as English {english:.3f}")


if __name__ == "__main__":
    main()
