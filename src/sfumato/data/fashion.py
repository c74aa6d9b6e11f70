"""Fashion-MNIST: 70,000 pieces of clothing, 28 x 28 pixels, in ten classes (Xiao et al., 2017)."""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from sfumato.data.labelled import Labelled, check_split
from sfumato.errors import DataError, StorageError

CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""
PUBLISHED = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
"""The authors' own address; the checksums make up for the missing encryption."""
SIDE = 28
_MOST_BYTES = 2**30


@dataclass(frozen=True)
class Published:
    """One file as its authors published it."""

    bytes: int
    md5: str
    """Of the file, as the authors state it."""
    sha256: str
    """Of what is in it; the same for Debian's copy, which is packed anew."""


FILES = {
    "train-images-idx3-ubyte.gz": Published(
        26421880,
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte.gz": Published(
        29515,
        "25c81989df183df01b3e8a0aad5dffbe",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte.gz": Published(
        4422102,
        "bef4ecab320f06d8554ea6380940ec79",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte.gz": Published(
        5148,
        "bb300cfdad3c16e7a12a480ee83cd310",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}


class Fashion(Labelled):
    """60,000 pieces to learn from, 10,000 to test with; ``size`` 32 surrounds them with black.

    Looks into ``directory`` if given, else into our own data folder, else where Debian puts the files.
    Raises ``DataError`` if they are nowhere or damaged.
    """

    def __init__(self, split: str = "train", size: int = SIDE, *, directory: str | Path | None = None):
        check_split("fashion", split)
        folder = Path(directory) if directory is not None else _found()
        if folder is None or not _complete(folder):
            raise DataError(_missing(folder))
        part = "train" if split == "train" else "t10k"
        levels = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
        if levels.dim() != 3 or levels.shape[1:] != (SIDE, SIDE) or labels.shape != levels.shape[:1]:
            raise DataError(
                f"'{folder}' holds pictures of shape {tuple(levels.shape)} and labels of shape "
                f"{tuple(labels.shape)}, not (n, {SIDE}, {SIDE}) and (n,); fetch them again."
            )
        if len(labels) and int(labels.max()) >= len(CLASSES):
            raise DataError(
                f"'{folder}' has a label {int(labels.max())}, but there are only {len(CLASSES)} classes."
            )
        super().__init__("fashion", levels, labels.long(), classes=CLASSES, size=size, white=255)


def read_idx(path: str | Path) -> UInt8[Tensor, ...]:
    """Read a gzipped file of bytes in the IDX format of MNIST: two zeros, type 8, rank, sizes, values."""
    try:
        with gzip.open(path, "rb") as stream:
            zeros, kind, rank = struct.unpack(">HBB", stream.read(4))
            if zeros or kind != 8 or not 1 <= rank <= 4:
                raise DataError(f"'{path}' is not an IDX file of bytes; fetch it again.")
            shape = struct.unpack(f">{rank}I", stream.read(4 * rank))
            count = math.prod(shape)
            if count > _MOST_BYTES:
                raise DataError(
                    f"'{path}' announces {count:,} values, more than {_MOST_BYTES:,}; fetch it again."
                )
            values = stream.read(count + 1)
    except FileNotFoundError as error:
        raise DataError(
            f"There is no file '{path}'; give the folder that holds {', '.join(FILES)}."
        ) from error
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"'{path}' is damaged ({error}); fetch it again.") from error
    if len(values) != count:
        more = "more" if len(values) > count else len(values)
        raise DataError(f"'{path}' announces {count:,} values but holds {more}; fetch it again.")
    return torch.from_numpy(np.frombuffer(values, np.uint8).reshape(shape).copy())


def provide() -> Path:
    """Find the files, or download them into our own data folder: only if the user allows the network."""
    return _found() or download(_own())


def download(directory: Path, *, base: str = PUBLISHED, files: Mapping[str, Published] = FILES) -> Path:
    """Fetch the published files, each checked against size and checksums before it gets its name.

    Raises ``DataError`` if the network or a checksum fails, ``StorageError`` if the disk does.
    """
    for name, published in files.items():
        path = directory / name
        if path.exists():
            continue
        content = _fetch(base + name, published)
        aside = path.with_name(f"{name}.{os.getpid()}.part")
        try:
            directory.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(content)
            aside.replace(path)
        except OSError as error:
            raise StorageError(f"Cannot write '{path}': {error.strerror}; free some space.") from error
    return directory


def _fetch(url: str, published: Published) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            content: bytes = answer.read(published.bytes + 1)
    except (urllib.error.URLError, OSError) as error:
        raise DataError(f"Cannot download {url} ({error}); try again or {_by_debian()}.") from error
    if len(content) != published.bytes or hashlib.md5(content).hexdigest() != published.md5:
        raise DataError(f"{url} is not the file its authors published; try again or {_by_debian()}.")
    if hashlib.sha256(gzip.decompress(content)).hexdigest() != published.sha256:
        raise DataError(f"{url} holds other pictures than its authors published; {_by_debian()}.")
    return content


def _own() -> Path:
    """Our own data folder: ``$SFUMATO_DATA``, else as the XDG rules say."""
    shared = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(os.environ.get("SFUMATO_DATA") or f"{shared}/sfumato").expanduser() / "fashion-mnist"


def _found() -> Path | None:
    return next((folder for folder in (_own(), DEBIAN) if _complete(folder)), None)


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _by_debian() -> str:
    return "install Debian's package: apt install dataset-fashion-mnist"


def _missing(folder: Path | None) -> str:
    looked = f"'{folder}'" if folder else f"'{_own()}' or '{DEBIAN}'"
    return (
        f"Fashion-MNIST is not in {looked}, where {', '.join(FILES)} should be; {_by_debian()}, "
        "or put the four files there, or let them be downloaded with --allow-network."
    )
