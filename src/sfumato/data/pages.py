"""Pairs of a picture's address and its alt text, out of web pages and out of folders of captioned pictures.

LAION-5B (Schuhmann et al. 2022, arXiv 2210.08402, section 3.1) takes every <img> with an alt text from Common
Crawl's WAT files; here pages on disk serve as well. Pages are read by a scanner of our own: it needs time in
proportion to their length, whatever is broken in them.
"""

from __future__ import annotations

import codecs
import gzip
import html
import json
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from sfumato.data.scan import SUFFIXES, listed, read_metadata
from sfumato.errors import DataError

PAGES = (".html", ".htm", ".xhtml")
CRAWLS = (".wat", ".wat.gz", ".wat.jsonl", ".wat.jsonl.gz")
"""Common Crawl's WAT files, or the JSON of their records alone, one a line."""
MOST = 16 * 2**20
"""Bytes of the largest page, or line of a crawl, that is read."""
OUTSIDE = "outside the folder"
HERE = "file:///"
"""Addresses below the given folder begin so."""
REFUSING = frozenset({"noai", "noimageai", "noindex", "noimageindex"})
"""What a page says to robots if its pictures are not to be taken (the choice of img2dataset)."""
ROBOTS = "the page asks robots to keep out"


@dataclass(frozen=True)
class Pair:
    """A picture that is said to show something."""

    address: str
    """``http(s)://...``, or ``file:///...`` below the given folder."""
    text: str
    page: str = ""
    """Where it was found: a file below the folder, or the address of a crawled page."""
    licence: str = ""
    """What the page says of its licence, if it does."""


@dataclass(frozen=True)
class Refused:
    """Something that gives no pair, and why."""

    where: str
    reason: str


Found = Pair | Refused


def gather(root: Path) -> Iterator[Found]:
    """All pairs below a folder, or in one page or crawl file, always in the same order.

    A folder that holds pages or crawl files is read as a saved web; else its pictures with the texts beside
    them or in metadata.jsonl are the pairs. Raises ``DataError`` if there is neither.
    """
    if not root.exists():
        raise DataError(f"There is no '{root}'; give a folder of pages or pictures, or a page.")
    if root.is_file():
        if not root.name.lower().endswith(PAGES + CRAWLS):
            raise DataError(f"'{root}' is none of {', '.join(PAGES + CRAWLS)}; give a page or a folder.")
        yield from _from_file(root, root.name)
        return
    files = list(listed(root))
    pages = [name for name in files if name.lower().endswith(PAGES + CRAWLS)]
    pictures = [name for name in files if name.lower().endswith(SUFFIXES)]
    if not pages and not pictures:
        raise DataError(
            f"'{root}' holds neither pages ({', '.join(PAGES + CRAWLS)}) nor pictures "
            f"({', '.join(SUFFIXES)}); give another folder."
        )
    if not pages:
        yield from _captioned(root, files, pictures)
    for name in pages:
        if inside(root, root / name):
            yield from _from_file(root / name, name)
        else:
            yield Refused(name, OUTSIDE)


def inside(root: Path, path: Path) -> bool:
    """Whether a path stays below a folder once all links are followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _from_file(path: Path, name: str) -> Iterator[Found]:
    try:
        if name.lower().endswith(CRAWLS):
            yield from _crawl(path, name)
            return
        with path.open("rb") as file:
            data = file.read(MOST + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        yield Refused(name, f"page cannot be read: {reason}")
        return
    if len(data) > MOST:
        yield Refused(name, f"page of more than {MOST // 2**20} MB")
        return
    yield from read_page(decoded(data), HERE + quote(name, errors="surrogateescape"), name)


# --- HTML ------------------------------------------------------------------------------------------

_TAGS = re.compile(
    r"<!--.*?(?:-->|\Z)"  # skipped, as is what follows as far as its end tag
    r"|<(script|style|textarea|title|xmp)\b[^<>]*>.*?(?:</\1|\Z)"
    r"""|<(img|base|meta|a|link)\b((?:[^<>"'=]++|=\s*+(?:"[^"]*"|'[^']*'|[^\s<>"'][^\s<>]*+)?|["'])*+)>""",
    re.I | re.S,
)
"""A quote ends at the next of its kind and an unfinished tag at the next "<", so no end is sought twice."""
_ATTRIBUTE = re.compile(r"""([^\s=>"'/]+)(?:\s*+=\s*+(?:"([^"]*)"|'([^']*)'|([^\s>]+)))?""")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w-]{1,40})""", re.I)
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+", re.I)
_HEAD = 4096
_LAZY = ("data-src", "data-original", "data-lazy-src")
"""Where pages that load pictures late keep the address."""


def read_page(page: str, address: str, name: str) -> Iterator[Found]:
    """The pictures of a page with their alt texts, each as often as it stands there.

    A page that asks robots to leave its pictures alone is refused whole.
    """
    tags = [(tag, _attributes(inside)) for tag, inside in _tags(page)]
    for tag, attributes in tags:
        robots = tag == "meta" and attributes.get("name", "").lower() == "robots"
        if robots and refuses(attributes.get("content", "")):
            yield Refused(name, ROBOTS)
            return
    bases = (joined(address, attributes.get("href", "")) for tag, attributes in tags if tag == "base")
    base, licence = next(filter(None, bases), address), ""
    for _, attributes in tags:
        if "license" in attributes.get("rel", "").lower().split():
            licence = licence or joined(base, attributes.get("href", ""))
    for tag, attributes in tags:
        if tag == "img":
            yield _picture(attributes, base, name, licence)


def _tags(page: str) -> Iterator[tuple[str, str]]:
    for match in _TAGS.finditer(page):
        if match[2]:
            yield match[2].lower(), match[3]


def _attributes(inside: str) -> dict[str, str]:
    """Attributes by lower-case name; the first of a name counts, as in browsers."""
    found: dict[str, str] = {}
    for name, *values in _ATTRIBUTE.findall(inside):
        found.setdefault(name.lower(), html.unescape("".join(values)))
    return found


def _picture(attributes: Mapping[str, str], base: str, name: str, licence: str) -> Found:
    source = attributes.get("src", "")
    if not source or source.lower().startswith("data:"):
        late = (attributes[key] for key in _LAZY if attributes.get(key))
        source = next(late, "") or _largest(attributes.get("srcset", "")) or source
    if not source:
        return Refused(name, "no address")
    if source.lower().startswith("data:"):
        return Refused(name, "picture inside the page")
    text = tidy(attributes.get("alt", ""))
    if not text:
        return Refused(name, "no text")
    address = joined(base, source)
    if not address:
        return Refused(name, "address not allowed")
    return Pair(address, text, name, licence)


def _largest(srcset: str) -> str:
    """The address with the largest width or density; "a.jpg 1x, b.jpg 2x" gives "b.jpg"."""
    best, most = "", -1.0
    for part in srcset.split(", "):
        words = part.split()
        size = re.match(r"[\d.]{1,12}(?=[wx]$)", words[1]) if len(words) > 1 else None
        try:
            number = float(size[0]) if size else 0.0
        except ValueError:
            number = 0.0
        if words and number > most:
            best, most = words[0].rstrip(","), number
    return best


def joined(base: str, address: str) -> str:
    """An address as a browser would complete it, without its #fragment; empty if it is not to be followed.

    >>> joined("file:///blog/page.html", "../img/a%20b.jpg#top")
    'file:///img/a%20b.jpg'
    >>> joined("file:///blog/page.html", "file:///etc/passwd")
    ''
    """
    address = re.sub(r"[\t\r\n]", "", address.strip())
    try:
        scheme = urlsplit(address).scheme
        if scheme not in ("", "http", "https") or "\0" in address:
            return ""
        if base.startswith(HERE) and address.startswith("//"):
            address = "http:" + address
        elif base.startswith(HERE) and address.startswith("/"):
            address = _site(base) + address
        whole = urlsplit(urljoin(base, address))
        host = whole.netloc.lower()
    except ValueError:  # a host such as "[::1"
        return ""
    if whole.scheme in ("http", "https") and not host:
        return ""
    path = whole.path or "/"
    if host:
        return urlunsplit((whole.scheme, host, path, whole.query, ""))
    return HERE[:-1] + path + (f"?{whole.query}" if whole.query else "")


def _site(page: str) -> str:
    """Where the addresses of a saved page that begin with "/" start: its host's folder, as wget names it."""
    host, _, rest = page.removeprefix(HERE).partition("/")
    return HERE + host if rest and _HOST.fullmatch(host) else HERE[:-1]


def tidy(text: str) -> str:
    """A text in one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def decoded(data: bytes) -> str:
    """A page as text: by its byte order mark, as UTF-8, by what it says of itself, or as Windows-1252."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        found = _CHARSET.search(data[:_HEAD])
    try:
        name = codecs.lookup(found[1].decode("ascii")).name if found else "cp1252"
        return data.decode("cp1252" if name.startswith(("utf-16", "utf-32")) else name, "replace")
    except (LookupError, ValueError):  # unknown, or no character set at all
        return data.decode("cp1252", "replace")


# --- crawls ----------------------------------------------------------------------------------------


def _crawl(path: Path, name: str) -> Iterator[Found]:
    """WAT records: each is one line of JSON, in WARC frames or alone, so that lines are all we look at."""
    with gzip.open(path) if name.endswith(".gz") else path.open("rb") as file:
        while line := file.readline(MOST):
            if not line.lstrip().startswith(b"{"):
                if len(line) == MOST:
                    yield Refused(name, f"line of more than {MOST // 2**20} MB")
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                yield Refused(name, "record is not JSON")
                continue
            yield from read_record(record)


def read_record(record: Any) -> Iterator[Found]:
    """The pictures of one WAT record: links whose path is ``IMG@/src`` and that have an alt text."""
    address = _at(record, "Envelope", "WARC-Header-Metadata", "WARC-Target-URI")
    answer = _at(record, "Envelope", "Payload-Metadata", "HTTP-Response-Metadata")
    if not isinstance(address, str) or not isinstance(answer, dict):
        return
    robots = [_at(answer, "Headers", key) for key in ("X-Robots-Tag", "x-robots-tag")]
    head = _at(answer, "HTML-Metadata", "Head", "Metas")
    robots += [m.get("content") for m in head or () if isinstance(m, dict) and m.get("name") == "robots"]
    if refuses(", ".join(word for word in robots if isinstance(word, str))):
        yield Refused(address, ROBOTS)
        return
    links = _at(answer, "HTML-Metadata", "Links")
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and link.get("path") == "IMG@/src":
            strings = {k: html.unescape(v) for k, v in link.items() if isinstance(v, str)}
            yield _picture(
                {"src": strings.get("url", ""), "alt": strings.get("alt", "")}, address, address, ""
            )


def refuses(said: str) -> bool:
    """Whether what is said to robots ("noindex, noai", "bot: noai") keeps pictures back."""
    return bool({word.rpartition(":")[2].strip().lower() for word in said.split(",")} & REFUSING)


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


# --- folders ---------------------------------------------------------------------------------------


def _captioned(root: Path, files: list[str], pictures: list[str]) -> Iterator[Found]:
    """Pictures with the text beside them, or else from metadata.jsonl; a text that is no UTF-8 is refused."""
    told: dict[str, str] = {}
    for name in files:
        if Path(name).name == "metadata.jsonl":
            told |= read_metadata(root, name)
    there = set(files)
    for name in pictures:
        beside = name[: name.rindex(".")] + ".txt"
        text = told.get(name, "")
        if beside in there:
            try:
                text = tidy((root / beside).read_text(encoding="utf-8-sig"))
            except (UnicodeDecodeError, OSError) as error:
                kind = "text is not UTF-8" if isinstance(error, UnicodeDecodeError) else "text cannot be read"
                yield Refused(name, kind)
                continue
        yield (
            Pair(HERE + quote(name, errors="surrogateescape"), tidy(text), name)
            if text
            else Refused(name, "no text")
        )
