"""Fashion-MNIST: its files are read, refused when damaged, and fetched only with matching checksums."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import resource
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.data import fashion, open_data
from sfumato.data.fashion import FILES, Fashion, Published, download, read_idx
from sfumato.errors import DataError, StorageError, UsageError


def zipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return zipped(header + values.astype(np.uint8).tobytes())


def contents(train: int = 12, test: int = 5) -> dict[str, np.ndarray]:
    dice = np.random.default_rng(0)
    made = {}
    for part, count in (("train", train), ("t10k", test)):
        made[f"{part}-images-idx3-ubyte.gz"] = dice.integers(0, 256, (count, 28, 28))
        made[f"{part}-labels-idx1-ubyte.gz"] = np.arange(count) % 10
    return made


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, values in contents().items():
        (tmp_path / name).write_bytes(idx(values))
    return tmp_path


@pytest.fixture
def nowhere(tmp_path, monkeypatch) -> Path:
    """A machine without the files."""
    monkeypatch.setenv("SFUMATO_DATA", str(tmp_path / "own"))
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path / "debian")
    return tmp_path


@pytest.mark.parametrize(("split", "part", "count"), [("train", "train", 12), ("test", "t10k", 5)])
def test_files_of_a_folder_are_read_exactly(folder, split, part, count):
    data = Fashion(split, directory=folder)
    batch = data.batch(torch.arange(count))
    expected = contents()
    levels = (batch["image"][:, 0] + 1) * 127.5
    assert len(data) == count
    assert np.array_equal(levels.round().numpy(), expected[f"{part}-images-idx3-ubyte.gz"])
    assert (levels - levels.round()).abs().max() < 1e-4
    assert batch["label"].tolist() == expected[f"{part}-labels-idx1-ubyte.gz"].tolist()
    assert data.facts.classes[9] == "ankle boot"
    assert data.facts.fields == {"image", "label"}


def test_size_32_adds_a_black_border(folder):
    small = Fashion("test", directory=folder).batch(torch.arange(5))["image"]
    large = Fashion("test", 32, directory=folder).batch(torch.arange(5))["image"]
    assert large.shape == (5, 1, 32, 32)
    assert torch.equal(large[:, :, 2:30, 2:30], small)
    assert (large[:, :, :2] == -1).all()
    with pytest.raises(UsageError, match="pictures of 28 x 28 pixels, not 16"):
        Fashion(size=16, directory=folder)


def test_own_data_folder_comes_before_debian(folder, nowhere, monkeypatch):
    own = nowhere / "own" / "fashion-mnist"
    own.mkdir(parents=True)
    for name, values in contents(train=3).items():
        (own / name).write_bytes(idx(values))
    monkeypatch.setattr(fashion, "DEBIAN", folder)
    assert len(open_data("fashion")) == 3
    (own / "train-labels-idx1-ubyte.gz").unlink()
    assert len(open_data("fashion", size=32, allow_network=True)) == 12


def test_absent_files_are_explained(nowhere):
    with pytest.raises(DataError, match=r"apt install dataset-fashion-mnist.*--allow-network") as caught:
        Fashion()
    assert all(name in str(caught.value) for name in FILES)
    with pytest.raises(DataError, match=r"Fashion-MNIST is not in '.*empty'"):
        Fashion(directory=nowhere / "empty")
    with pytest.raises(UsageError, match="'fashion' has no split 'held'"):
        Fashion("held")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is damaged"),
        (b"<html>404</html>", "is damaged"),
        (zipped(b""), "is damaged"),
        (zipped(struct.pack(">HBBI", 0, 8, 3, 2)), "is damaged"),
        (zipped(struct.pack(">HBBI", 1, 8, 1, 2) + b"ab"), "is not an IDX file of bytes"),
        (zipped(struct.pack(">HBBI", 0, 13, 1, 2) + b"ab"), "is not an IDX file of bytes"),
        (zipped(struct.pack(">HBBI", 0, 8, 1, 3) + b"ab"), "announces 3 values but holds 2"),
        (zipped(struct.pack(">HBBI", 0, 8, 1, 1) + b"ab"), "announces 1 values but holds more"),
        (zipped(struct.pack(">HBBIII", 0, 8, 3, 60000, 2**16, 2**16)), "announces .* more than"),
        (idx(np.random.default_rng(0).integers(0, 256, (9, 28, 28)))[:-900], "is damaged"),
    ],
    ids=["empty", "page", "nothing", "cut-header", "header", "type", "short", "long", "huge", "cut"],
)
def test_damaged_file_is_refused(tmp_path, content, reason):
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.gz' {reason}"):
        read_idx(tmp_path / "a.gz")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        read_idx(tmp_path / "a.gz")


def test_flipped_bit_is_noticed(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[3000] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        Fashion(directory=folder)


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("train-images-idx3-ubyte.gz", np.zeros((12, 28, 27)), r"pictures of shape \(12, 28, 27\)"),
        ("train-images-idx3-ubyte.gz", np.zeros((11, 28, 28)), r"labels of shape \(12,\)"),
        ("train-labels-idx1-ubyte.gz", np.full(12, 10), "a label 10, but there are only 10 classes"),
    ],
)
def test_files_that_do_not_fit_together(folder, name, values, reason):
    (folder / name).write_bytes(idx(values))
    with pytest.raises(DataError, match=reason):
        Fashion(directory=folder)


@pytest.fixture
def served(tmp_path_factory):
    """Files behind an address of this very machine."""
    root = tmp_path_factory.mktemp("served")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(root))

        def log_message(self, format, *args):
            pass

    files = {}
    for name, values in contents().items():
        packed = idx(values)
        (root / name).write_bytes(packed)
        unpacked = gzip.decompress(packed)
        files[name] = Published(
            len(packed), hashlib.md5(packed).hexdigest(), hashlib.sha256(unpacked).hexdigest()
        )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", files, root
        server.shutdown()


def test_download_checks_and_keeps_the_files(served, tmp_path):
    base, files, root = served
    folder = download(tmp_path / "new", base=base, files=files)
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    assert len(Fashion(directory=folder)) == 12
    for path in root.iterdir():
        path.unlink()
    assert download(folder, base=base, files=files) == folder


def test_download_refuses_other_content(served, tmp_path):
    base, files, _ = served
    with pytest.raises(DataError, match="is not the file its authors published"):
        download(tmp_path / "new", base=base)
    wrong = {n: Published(p.bytes, p.md5, "0" * 64) for n, p in files.items()}
    with pytest.raises(DataError, match="holds other pictures than its authors published"):
        download(tmp_path / "new", base=base, files=wrong)
    assert not (tmp_path / "new").exists()


def test_download_without_network(served, tmp_path):
    base, files, _ = served
    with pytest.raises(DataError, match=r"Cannot download .*404.*apt install dataset-fashion-mnist"):
        download(tmp_path, base=base + "none/", files=files)
    with pytest.raises(DataError, match="Cannot download"):
        download(tmp_path, base="http://127.0.0.1:9/", files=files)


def test_download_onto_a_full_disk(served, tmp_path):
    base, files, _ = served
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError, match=r"Cannot write .*File too large"):
            download(tmp_path / "new", base=base, files=files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_published_facts_agree_with_debians_copy_where_installed():
    for name, published in FILES.items():
        if (path := fashion.DEBIAN / name).exists() and published.bytes < 5e6:
            with gzip.open(path) as stream:
                assert hashlib.sha256(stream.read()).hexdigest() == published.sha256


def test_batches_are_fast(folder):
    data = Fashion(directory=folder, size=32)
    indices = torch.arange(128) % 12
    times = []
    for _ in range(30):
        start = time.perf_counter()
        data.batch(indices)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.002
