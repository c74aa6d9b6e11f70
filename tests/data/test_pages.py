"""Pairs out of pages, crawl files and folders, whatever is broken in them."""

from __future__ import annotations

import gzip
import json
import time

import pytest

from sfumato.data.pages import Pair, Refused, decoded, gather, joined, read_page
from sfumato.errors import DataError


def pairs(page: str, address: str = "file:///a.org/dir/p.html") -> list[tuple[str, str]]:
    return [(f.address, f.text) for f in read_page(page, address, "p") if isinstance(f, Pair)]


def reasons(page: str) -> list[str]:
    return [f.reason for f in read_page(page, "file:///p.html", "p") if isinstance(f, Refused)]


@pytest.mark.parametrize(
    ("tag", "address", "text"),
    [
        ('<img src="b.jpg" alt="two &amp; three &#x41;">', "/a.org/dir/b.jpg", "two & three A"),
        ("<IMG SRC=b.jpg ALT='it is'>", "/a.org/dir/b.jpg", "it is"),
        ("<img/src=b.jpg/alt=one>", None, ""),
        ('<img alt="a > b" src=../b.jpg>', "/a.org/b.jpg", "a > b"),
        ("<img alt=5\" tv\" src='b.jpg'>", "/a.org/dir/b.jpg", '5"'),
        ('<img src=" b c.jpg\n" alt=" over\ttwo\nlines ">', "/a.org/dir/b c.jpg", "over two lines"),
        ("<img src=/b.jpg?x=1#top alt=root>", "/a.org/b.jpg?x=1", "root"),
        ("<img src=../../../../b.jpg alt=climbs>", "/b.jpg", "climbs"),
        ('<img src="data:image/gif;base64,R0" data-src="late.jpg" alt=late>', "/a.org/dir/late.jpg", "late"),
        ('<img srcset="s.jpg 320w, l.jpg 1280w, m.jpg 640w" alt=set>', "/a.org/dir/l.jpg", "set"),
        ("<img src=a.jpg src=b.jpg alt=first alt=second>", "/a.org/dir/a.jpg", "first"),
    ],
)
def test_pictures_of_a_page(tag, address, text):
    assert pairs(tag) == ([(f"file://{address}", text)] if address else pairs(tag))


def test_addresses_elsewhere_and_bases():
    assert pairs("<img src=//CDN.org/g.jpg alt=cdn>") == [("http://cdn.org/g.jpg", "cdn")]
    page = "<base href='https://x.org/y/'><base href=/z/><img src=a.jpg alt=based>"
    assert pairs(page) == [("https://x.org/y/a.jpg", "based")]


def test_what_gives_no_pair_says_why():
    page = (
        "<img alt=bare><img src=a.jpg><img src=a.jpg alt=' '><img src=javascript:x alt=js>"
        "<img src='data:image/gif;base64,R0' alt=inside><img src='file:///etc/passwd' alt=local>"
        "<img src='http://[::1' alt=broken>"
    )
    wrong = "address not allowed"
    assert reasons(page) == [
        "no address",
        "no text",
        "no text",
        wrong,
        "picture inside the page",
        wrong,
        wrong,
    ]


def test_comments_and_scripts_are_no_pages():
    page = (
        "<!-- <img src=a.jpg alt=a> --><script>'<img src=b.jpg alt=b>'</script><img src=c.jpg alt=c><!-- <img"
    )
    assert [text for _, text in pairs(page)] == ["c"]


def test_pages_may_refuse_and_state_a_licence():
    assert reasons('<meta name="robots" content="all, NoAI"><img src=a.jpg alt=a>') == [
        "the page asks robots to keep out"
    ]
    page = "<img src=a.jpg alt=a><a rel='license noopener' href='//cc.org/by/4.0/'>"
    assert [f.licence for f in read_page(page, "http://b.org/", "p")] == ["http://cc.org/by/4.0/"]


@pytest.mark.parametrize(
    "piece", ["<img ", '<img a="', "<img a='", "<!--", "<script>", "<img =", '<meta """', "<a b"]
)
def test_broken_pages_take_no_longer_than_others(piece):
    start = time.process_time()
    for end in ("", '"', "'", ">"):
        list(read_page(piece * (200_000 // len(piece)) + end, "file:///p.html", "p"))
    assert time.process_time() - start < 2  # a scan from every tag to the end would take minutes


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("é".encode(), "é"),
        (b"\xef\xbb\xbfx", "x"),
        ("é".encode("utf-16"), "é"),
        (b"\xe9", "é"),
        (b'<meta charset="koi8-r">\xd1', '<meta charset="koi8-r">я'),
        (b"<meta charset=nonsense>\xe9", "<meta charset=nonsense>é"),
        (b"<meta charset=utf-16>\xe9", "<meta charset=utf-16>é"),
    ],
)
def test_pages_of_any_character_set(data, text):
    assert decoded(data).lstrip("\ufeff") == text


def record(**more) -> dict:
    links = [
        {"path": "IMG@/src", "url": "/a.jpg", "alt": "a &amp; b"},
        {"path": "IMG@/src", "url": "b.jpg"},
        {"path": "A@/href", "url": "c.html", "text": "no picture"},
        "nonsense",
    ]
    answer = {"HTML-Metadata": {"Links": links}} | more
    head = {"WARC-Target-URI": "http://x.org/d/p.html"}
    return {
        "Envelope": {"WARC-Header-Metadata": head, "Payload-Metadata": {"HTTP-Response-Metadata": answer}}
    }


def test_crawl_files_in_warc_frames_and_as_lines(tmp_path):
    line = json.dumps(record())
    framed = f"WARC/1.0\r\nWARC-Type: metadata\r\nContent-Length: {len(line)}\r\n\r\n{line}\r\n\r\n"
    (tmp_path / "a.wat.gz").write_bytes(gzip.compress(framed.encode()))
    (tmp_path / "b.wat.jsonl").write_text(
        line + '\n{"broken\n[1]\n{}\n' + json.dumps(record(Headers={"X-Robots-Tag": "noai"}))
    )
    (tmp_path / "c.wat.gz").write_bytes(gzip.compress(framed.encode() * 200)[:-30])
    found = list(gather(tmp_path))
    pair = Pair("http://x.org/a.jpg", "a & b", "http://x.org/d/p.html")
    assert found[:3] == [pair, Refused("http://x.org/d/p.html", "no text"), pair]
    assert [f.reason for f in found[4:6]] == ["record is not JSON", "the page asks robots to keep out"]
    assert found[-1].reason.startswith("page cannot be read")


def test_folders_of_captioned_pictures(tmp_path):
    for name in ("a.jpg", "b.png", "c d.webp", "e.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "a.txt").write_text("a dog\n on grass")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "c d.webp", "text": "a cat"}')
    assert list(gather(tmp_path)) == [
        Pair("file:///a.jpg", "a dog on grass", "a.jpg"),
        Refused("b.png", "text is not UTF-8"),
        Pair("file:///c%20d.webp", "a cat", "c d.webp"),
        Refused("e.jpg", "no text"),
    ]


def test_pages_that_lie_elsewhere_or_are_huge_are_refused(tmp_path, monkeypatch):
    root, other = tmp_path / "web", tmp_path / "elsewhere.html"
    root.mkdir()
    other.write_text("<img src=a.jpg alt=a>")
    (root / "link.html").symlink_to(other)
    (root / "large.html").write_text("<p>" * 50)
    monkeypatch.setattr("sfumato.data.pages.MOST", 100)
    assert {(f.where, f.reason) for f in gather(root)} == {
        ("link.html", "outside the folder"),
        ("large.html", "page of more than 0 MB"),
    }


def test_what_is_no_web_and_no_folder_of_pictures_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds neither pages"):
        list(gather(tmp_path))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"is none of \.html"):
        list(gather(tmp_path / "a.txt"))
    with pytest.raises(DataError, match="There is no"):
        list(gather(tmp_path / "b"))


def test_joined_addresses_lose_fragments_and_keep_queries():
    assert joined("http://A.org/x/", "b.jpg?q=1#f") == "http://a.org/x/b.jpg?q=1"
    assert joined("file:///x.html", "http:") == joined("file:///x.html", "http://") == ""
