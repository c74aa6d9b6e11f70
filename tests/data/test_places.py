"""Pictures from below one folder and nowhere else; from the network only as far as allowed."""

from __future__ import annotations

import os
import socket
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sfumato.data import places
from sfumato.data.places import Places, Unavailable, check_host, fetch


@pytest.fixture
def web(tmp_path):
    root = tmp_path / "web"
    (root / "img").mkdir(parents=True)
    (root / "x.org" / "p").mkdir(parents=True)
    (root / "img" / "a b.jpg").write_bytes(b"one")
    (root / "img" / "q.jpg?s=1").write_bytes(b"two")
    (root / "x.org" / "p" / "c.jpg").write_bytes(b"three")
    (tmp_path / "secret").write_bytes(b"secret")
    return Places(root)


def test_files_below_the_folder_and_mirrored_hosts(web):
    assert web.read("file:///img/a%20b.jpg") == b"one"
    assert web.read("file:///img/a b.jpg?v=3") == b"one"
    assert web.read("file:///img/q.jpg?s=1") == b"two"
    assert web.read("http://x.org/p/c.jpg") == web.read("https://x.org/p/c.jpg?w=100") == b"three"


@pytest.mark.parametrize(
    "address",
    [
        "file:///../secret",
        "file:///img/../../secret",
        "file:///%2e%2e/secret",
        "file:///img/%2E%2E/%2e%2e/secret",
        "file:///..%2fsecret",
        "http://../secret",
        "http://x.org/../../secret",
        "file:///link.jpg",
        "file:///linked/secret",
        "file:////etc/passwd",
        "file:///etc/passwd",
        "file:///img/%00",
        "file:///img",
        "file:///pipe.jpg",
        "file:///" + "a" * 5000,
        "http://[::1/a.jpg",
    ],
)
def test_nothing_leads_out_of_the_folder(web, address):
    (web.root / "link.jpg").symlink_to(web.root.parent / "secret")
    (web.root / "linked").symlink_to(web.root.parent, target_is_directory=True)
    os.mkfifo(web.root / "pipe.jpg")
    with pytest.raises(Unavailable) as error:
        web.read(address)
    wanted = (
        "outside the folder",
        "no such file",
        "on the network",
        "address not allowed",
        "File name too long",
    )
    assert error.value.reason in wanted


def test_links_within_the_folder_are_followed(web):
    (web.root / "again.jpg").symlink_to("img/a b.jpg")
    assert web.read("file:///again.jpg") == b"one"


def test_huge_files_are_not_read(web, monkeypatch):
    monkeypatch.setattr(places, "MOST", 2)
    with pytest.raises(Unavailable, match="more than"):
        web.read("file:///img/a%20b.jpg")


def test_no_network_unless_allowed(web, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("asked the network"))
    with pytest.raises(Unavailable, match="on the network"):
        web.read("http://elsewhere.org/a.jpg")


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        robots = {"/noai.jpg": "googlebot: all, noai"}.get(self.path)
        leads = {"/away.jpg": "file:///etc/passwd", "/on.jpg": "/a.jpg"}.get(self.path)
        self.send_response(302 if leads else 404 if self.path == "/missing.jpg" else 200)
        if robots:
            self.send_header("X-Robots-Tag", robots)
        if leads:
            self.send_header("Location", leads)
        self.end_headers()
        self.wfile.write(b"picture")

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_pictures_from_a_server(server, tmp_path):
    allowed = Places(tmp_path, allow_network=True, allow_private=True)
    assert allowed.read(f"{server}/a.jpg") == allowed.read(f"{server}/on.jpg") == b"picture"
    for path, reason in {
        "noai.jpg": "the server asks robots to keep out",
        "away.jpg": "the server answered 302",
        "missing.jpg": "the server answered 404",
    }.items():
        with pytest.raises(Unavailable, match=reason):
            fetch(f"{server}/{path}", private=True)
    with pytest.raises(Unavailable, match="address within the own network"):
        Places(tmp_path, allow_network=True).read(f"{server}/a.jpg")
    opener = urllib.request.build_opener(places._Careful(private=False))
    with pytest.raises(Unavailable, match="address within the own network"):
        opener.open(f"{server}/on.jpg")  # the server itself may lead there


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "0.0.0.0"])
def test_own_networks_are_not_asked(host):
    with pytest.raises(Unavailable, match=r"own network|no such server"):
        check_host(f"http://{host}/latest/meta-data")
