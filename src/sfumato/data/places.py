"""Pictures by their address: from files below one folder, or, only if allowed, from the network."""

from __future__ import annotations

import ipaddress
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from sfumato.data.pages import HERE, OUTSIDE, inside, refuses

MOST = 64 * 2**20
"""Bytes of the largest picture that is read."""
TIMEOUT = 20.0
AGENT = "sfumato (research; reads X-Robots-Tag)"


class Unavailable(Exception):
    """A picture that cannot be had, in few words that are counted."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Places:
    """Where the pictures of a saved web are.

    ``file:///img/a.jpg`` lies in ``root/img/a.jpg``. So does, as ``wget --mirror`` lays it out,
    ``http://host/img/a.jpg`` in ``root/host/img/a.jpg``. No link or ".." leads out of the folder.
    """

    root: Path
    allow_network: bool = False
    allow_private: bool = False
    """Whether addresses within the own network may be asked: only ever for a server of one's own."""

    def read(self, address: str) -> bytes:
        """The file of a picture; ``Unavailable`` if it is not to be had."""
        try:
            parts = urlsplit(address)
            path, query = unquote(parts.path), unquote(parts.query)
        except ValueError:
            raise Unavailable("address not allowed") from None
        local = address.startswith(HERE)
        names = [f"{path}?{query}", path] if query else [path]
        for name in names if local else [f"/{parts.netloc}{name}" for name in names]:
            if (data := self._file(name)) is not None:
                return data
        if local:
            raise Unavailable("no such file")
        if not self.allow_network:
            raise Unavailable("on the network")
        return fetch(address, private=self.allow_private)

    def _file(self, name: str) -> bytes | None:
        """A file below the root, or, for addresses from a site's own root, below the folder of that site."""
        if "\0" in name:
            raise Unavailable("address not allowed")
        relative = PurePosixPath(name.lstrip("/"))
        path = self.root / relative
        if not inside(self.root, path):
            raise Unavailable(OUTSIDE)
        try:
            if not path.is_file():  # missing, a folder, or a pipe that would never end
                return None
            with path.open("rb") as file:
                data = file.read(MOST + 1)
        except OSError as error:
            raise Unavailable(error.strerror or "cannot be read") from None
        if len(data) > MOST:
            raise Unavailable(f"more than {MOST // 2**20} MB")
        return data


# --- the network -----------------------------------------------------------------------------------


class _Careful(urllib.request.HTTPRedirectHandler):
    """Looks at every address that an answer leads on to."""

    def __init__(self, private: bool):
        self.private = private

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        check_host(newurl, private=self.private)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(address: str, *, private: bool = False) -> bytes:
    """Get a picture from the network; ``Unavailable`` if that fails or if robots are asked to keep out."""
    check_host(address, private=private)
    opener = urllib.request.build_opener(_Careful(private))
    request = urllib.request.Request(address, headers={"User-Agent": AGENT, "Accept": "image/*"})
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            headers: Message = answer.headers
            if refuses(", ".join(headers.get_all("X-Robots-Tag") or ())):
                raise Unavailable("the server asks robots to keep out")
            data: bytes = answer.read(MOST + 1)
    except urllib.error.HTTPError as error:
        raise Unavailable(f"the server answered {error.code}") from None
    except (OSError, HTTPException, ValueError):
        raise Unavailable("the server did not answer") from None
    if len(data) > MOST:
        raise Unavailable(f"more than {MOST // 2**20} MB")
    return data


def check_host(address: str, *, private: bool = False) -> None:
    """Refuse what is not on the public network: a page must not make us ask our own machines."""
    try:
        parts = urlsplit(address)
        port = parts.port or 0
    except ValueError:
        raise Unavailable("address not allowed") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Unavailable("address not allowed")
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unavailable("no such server") from None
    for *_, place in found:
        if not private and not ipaddress.ip_address(str(place[0]).partition("%")[0]).is_global:
            raise Unavailable("address within the own network")
