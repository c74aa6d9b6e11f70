"""From a saved web to shards: what is kept and why not, after every kill, by any number of workers."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from sfumato.apps import curation as folder
from sfumato.apps.cli import main
from sfumato.apps.curate import Options, curation_of, read_scores
from sfumato.apps.decide import Candidate, Choice, decide
from sfumato.apps.examine import Examination, Examiner
from sfumato.apps.scale import Local, engine
from sfumato.core import durable
from sfumato.data.dedup import Look
from sfumato.data.pages import Pair
from sfumato.data.places import Places
from sfumato.data.rules import Rules, WarningWords
from sfumato.data.shards import read_index
from sfumato.errors import DataError, MissingExtraError, StorageError, UsageError
from tests.apps.pieces import note

FORK = multiprocessing.get_context("fork")
FAULTS = ("before_gathered", "before_records", "before_plan", "before_shard", "before_stats")
EASY = ("--min-bytes", "500", "--shard-size", "9", "--workers", "1", "-q")


def photo(seed: int, height: int = 80, width: int = 100) -> Image.Image:
    """Blots and grain."""
    dice = np.random.default_rng(seed)
    blots = Image.fromarray(dice.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    levels = np.asarray(blots.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return Image.fromarray((levels + dice.normal(0, 4, levels.shape)).round().clip(0, 255).astype(np.uint8))


def packed(image: Image.Image, quality: int = 90, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=quality)
    return buffer.getvalue()


def bomb() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Path:
    """20 good pictures, and one of everything that can be wrong."""
    root = tmp_path_factory.mktemp("web")
    (root / "img").mkdir()
    good = {f"{i}.jpg": packed(photo(i)) for i in range(20)}
    files = good | {
        "same.jpg": good["3.jpg"],
        "small.jpg": packed(photo(5).resize((88, 70)), 85),
        "large.jpg": packed(photo(6).resize((150, 120)), 92),
        "cut.jpg": good["7.jpg"][:900],
        "page.jpg": b"<html>not found</html>" * 40,
        "bomb.png": bomb(),
        "tiny.jpg": b"x" * 499,
        "wide.jpg": packed(photo(8, 70, 300)),
        "narrow.jpg": packed(photo(9, 40, 300)),
        "png.png": packed(photo(30), kind="PNG"),
    }
    for name, data in files.items():
        (root / "img" / name).write_bytes(data)
    (root / "img" / "out.jpg").symlink_to("/etc/hostname")
    told = {name: f"a photo of thing {i}" for i, name in enumerate(files)}
    told |= {"13.jpg": "nude beach", "missing.jpg": "a photo that is gone", "out.jpg": "a photo from outside"}
    told |= {"14.jpg": "dog", "15.jpg": "ein Bild von einem Hund"}
    tags = [f'<p><img src="img/{name}" alt="{text}">' for name, text in told.items()]
    tags += [
        '<img src="img/0.jpg" alt="the first one again">',
        '<img src="http://x.org/a.jpg" alt="far away">',
    ]
    (root / "a.html").write_text("<html>" + "\n".join(tags[:12]))
    (root / "b.html").write_bytes("<html>é".encode("latin-1") + "\n".join(tags[12:]).encode())
    return root


@pytest.fixture(scope="module")
def reference(web, tmp_path_factory) -> Path:
    """Shards made without a disturbance."""
    out = tmp_path_factory.mktemp("reference") / "shards"
    assert main(["curate", str(web), "--out", str(out), *EASY]) == 0
    return out


def same(out: Path, reference: Path) -> None:
    """Every file but the lock, work included."""
    files = [
        {str(p.relative_to(f)): p.read_bytes() for p in f.rglob("*") if p.is_file() and p.name != "lock"}
        for f in (out, reference)
    ]
    assert files[0].keys() == files[1].keys()
    assert [name for name, data in files[1].items() if files[0][name] != data] == []


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(out.glob("0*.jsonl")) for line in path.open()]


def curated(web: Path, out: Path, *more: str) -> int:
    return main(["curate", str(web), "--out", str(out), *EASY, *more])


def test_what_is_kept_and_why_the_rest_is_not(reference):
    told = json.loads((reference / "curation.json").read_text())
    wrong = {
        "picture cannot be read": 2, "copy of a picture": 2, "too few pixels": 1, "address seen before": 1,
        "copy of a file": 1, "file too small": 1, "language": 1, "no such file": 1, "on the network": 1,
        "outside the folder": 1, "text too short": 1, "too long and narrow": 1, "too many pixels": 1,
        "unsafe": 1,
    }  # fmt: skip
    assert told["dropped"] == wrong
    assert told["found"] == told["kept"] + sum(wrong.values())
    names = {row["url"].removeprefix("file:///img/").partition(".")[0] for row in rows(reference)}
    once = {str(i) for i in (*range(3), 4, 5, *range(7, 13), *range(16, 20))}
    assert names - {"3", "same"} == once | {"large", "png"}  # of copies the largest, of equals either
    assert len(names) == told["kept"] == len(once) + 3
    dropped = [json.loads(line) for line in (reference / "dropped.jsonl").open()]
    by_name = {line.get("address", "").rpartition("/")[2]: line for line in dropped}
    large = next(row["key"] for row in rows(reference) if row["url"].endswith("large.jpg"))
    assert by_name["6.jpg"]["of"] == large
    assert "truncated" in by_name["cut.jpg"]["detail"]
    assert "passwd" not in (reference / "README.md").read_text()


def test_shards_hold_what_was_found(web, reference):
    entries = [entry for path in sorted(reference.glob("*.tar")) for entry in read_index(path)]
    told = {row["key"]: row for row in rows(reference)}
    assert [entry.name.rpartition("/")[2] for entry in entries] == sorted(told)
    for entry in entries:
        row = told[entry.name.rpartition("/")[2]]
        assert entry.caption == row["caption"]
        source = web / "img" / row["url"].rpartition("/")[2]
        if source.suffix == ".jpg":
            assert entry.file().read() == source.read_bytes()
    stats = [json.loads(path.read_text()) for path in sorted(reference.glob("*_stats.json"))]
    assert [one["samples"] for one in stats] == [9, len(told) - 9]
    assert all(one["sha256"] == durable.sha256(reference / one["name"]) for one in stats)


def test_the_same_again_is_done_already_and_other_settings_are_refused(web, reference, tmp_path, capsys):
    out = tmp_path / "shards"
    shutil.copytree(reference, out)
    before = (out / "000000.tar").stat().st_mtime_ns
    assert curated(web, out) == 0
    assert (out / "000000.tar").stat().st_mtime_ns == before
    assert curated(web, out, "--min-side", "70") == 2
    assert "begun with other settings (min_side 64 before, 70 now)" in capsys.readouterr().err
    assert curated(web, out, "--unsafe", "tag") == 2
    assert (
        "chosen by other settings (unsafe drop before, tag now); repeat those, or choose anew"
        in capsys.readouterr().err
    )


def test_choosing_anew_examines_nothing_again(web, reference, tmp_path, monkeypatch):
    out = tmp_path / "shards"
    shutil.copytree(reference, out)
    monkeypatch.setattr(Examiner, "examine", lambda *a: pytest.fail("examined again"))
    assert curated(web, out, "--unsafe", "tag", "--duplicates", "exact", "--again") == 0
    told = json.loads((out / "curation.json").read_text())
    assert "unsafe" not in told["dropped"]
    assert "copy of a picture" not in told["dropped"]
    assert told["nsfw"] == {"unlikely": told["kept"] - 1, "likely": 1}
    monkeypatch.undo()
    fresh = tmp_path / "fresh"
    assert curated(web, fresh, "--unsafe", "tag", "--duplicates", "exact") == 0
    same(out, fresh)


def test_no_folder_of_something_else_is_written_into(web, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("precious")
    assert curated(web, tmp_path) == 2
    assert "is not empty; give --out a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert curated(web, tmp_path / "mine.txt") == 2
    assert curated(web / "nowhere", tmp_path / "out") == 65
    assert not (tmp_path / "out").exists()


# Kills, and a full disk


def in_a_fork(web: Path, out: Path, fault: str = "") -> multiprocessing.Process:
    def work() -> None:
        torch.set_num_threads(1)
        os.environ["SFUMATO_FAULT"] = fault
        os._exit(curated(web, out))

    process = FORK.Process(target=work)
    process.start()
    return process


@pytest.mark.parametrize("fault", FAULTS)
def test_goes_on_after_a_kill_at_every_fault_point(web, reference, tmp_path, fault):
    out = tmp_path / "shards"
    process = in_a_fork(web, out, f"curate.{fault}")
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (out / "curation.json").exists()
    assert curated(web, out) == 0
    same(out, reference)


def test_goes_on_after_kills_at_random_moments(web, reference, tmp_path):
    out, dice, kills = tmp_path / "shards", random.Random(7), 0
    for _ in range(8):
        process = in_a_fork(web, out)
        time.sleep(dice.uniform(0, 0.25))
        kills += process.is_alive()
        process.kill()
        process.join()
    assert kills >= 3
    assert curated(web, out) == 0
    same(out, reference)


def test_a_full_disk_leaves_what_was_written(web, reference, tmp_path, monkeypatch, capsys):
    out, real = tmp_path / "shards", folder.write_samples

    def full(file, samples):
        if out.joinpath("000000_stats.json").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, samples)

    monkeypatch.setattr(folder, "write_samples", full)
    assert curated(web, out) == StorageError.exit_code
    assert "No space left on device" in capsys.readouterr().err
    assert sorted(path.name for path in out.glob("0*")) == ["000000.jsonl", "000000.tar", "000000_stats.json"]
    monkeypatch.undo()
    assert curated(web, out) == 0
    same(out, reference)


def test_two_at_once_are_one_too_many(web, tmp_path, capsys):
    (tmp_path / "out/.work").mkdir(parents=True)
    handle = durable.hold(tmp_path / "out/.work/lock", "it")
    assert curated(web, tmp_path / "out") == 75
    assert f"is in use by pid {os.getpid()}" in capsys.readouterr().err
    os.close(handle)


def test_files_that_change_meanwhile_are_left_out(web, tmp_path, monkeypatch):
    own, out = tmp_path / "web", tmp_path / "shards"
    shutil.copytree(web, own, symlinks=True)
    real = folder.Curation.plan

    def plan(self, blocks):
        number = real(self, blocks)
        (own / "img/4.jpg").write_bytes(packed(photo(99)))
        (own / "img/5.jpg").unlink()
        return number

    monkeypatch.setattr(folder.Curation, "plan", plan)
    assert curated(own, out) == 0
    told = json.loads((out / "curation.json").read_text())
    assert told["dropped"]["changed while the data set was made"] == 1
    assert told["dropped"]["no such file"] == 2
    assert told["found"] == told["kept"] + sum(told["dropped"].values())


# Scores


class Colours:
    """Sees how red, green and blue a picture is, and reads colours' names."""

    def encode_images(self, pixels):
        return normalize(pixels.mean((2, 3)) + 1, dim=1)

    def encode_texts(self, texts):
        rows = [[float(name in text) + 1e-3 for name in ("red", "green", "blue")] for text in texts]
        return normalize(torch.tensor(rows), dim=1)


@pytest.fixture
def examiner(tmp_path):
    for name, colour in {"r": (250, 5, 5), "g": (5, 250, 5), "b": (5, 5, 250)}.items():
        (tmp_path / f"{name}.png").write_bytes(packed(Image.new("RGB", (70, 90), colour), kind="PNG"))
    return Examiner(Rules(min_bytes=1), Places(tmp_path), WarningWords(), tmp_path / "kept", Colours(), 8)


def test_texts_that_fit_score_higher(examiner):
    pairs = [
        Pair(f"file:///{n}.png", f"a {text} wall")
        for n, text in zip("rrgb", ("red", "blue", "green", "blue"), strict=True)
    ]
    scores = [
        record["similarity"]
        for record in examiner.examine([*pairs, Pair("file:///x.png", "gone")])
        if "drop" not in record
    ]
    assert scores[0] > 0.99
    assert scores[1] < 0.1
    assert min(scores[2:]) > 0.99
    assert all(score == round(score, 4) for score in scores)


def unlike(number: int) -> Look:
    return Look(0x9E3779B97F4A7C15 * (number + 1) % 2**64, bytes([number * 9] * 192), 0.0)


def chosen(similarities: list[float | None], choice: Choice, **more) -> tuple[list[str], dict[int, str]]:
    made = [
        Candidate(0, i, f"{i:02d}", bytes([i]), unlike(i), 100, 10, s, None, False)._replace(**more)
        for i, s in enumerate(similarities)
    ]
    kept, drops = decide(made, choice)
    return [one.key for one in kept], {number: drop.reason for number, drop in drops.items()}


def test_thresholds():
    scores = [0.1, 0.4, 0.3, 0.2, 0.5]
    assert chosen(scores, Choice(min_similarity=0.3))[0] == ["01", "02", "04"]
    assert chosen(scores, Choice(keep_best=0.4))[0] == ["01", "04"]
    assert chosen(scores, Choice(keep_best=0.1))[0] == []
    assert chosen(scores, Choice())[0] == ["00", "01", "02", "03", "04"]
    with pytest.raises(UsageError, match="needs --clip"):
        chosen([None], Choice(min_similarity=0.3))
    with pytest.raises(UsageError, match="needs --aesthetic"):
        chosen([0.3], Choice(min_aesthetic=5.0))
    with pytest.raises(UsageError, match="give one of them"):
        Choice(min_similarity=0.3, keep_best=0.5)
    with pytest.raises(UsageError, match="a share above 0"):
        Choice(keep_best=1.5)


def test_of_equal_pictures_the_best_told_is_kept_whatever_the_order():
    look = Look(77, bytes(192), 0.0)
    scores = [0.3, 0.9, 0.6]
    assert chosen(scores, Choice(), picture=b"same")[0] == ["01"]
    assert chosen(scores[::-1], Choice(), look=look)[1] == {0: "copy of a picture", 2: "copy of a picture"}
    # a false text does not save the place of a true one on a smaller copy
    pair = [
        Candidate(0, 0, "aa", b"a", look, 900, 90, 0.1, None, False),
        Candidate(0, 1, "bb", b"b", look, 100, 10, 0.8, None, False),
    ]
    for order in (pair, pair[::-1]):
        assert [one.key for one in decide(order, Choice(min_similarity=0.3))[0]] == ["bb"]


def test_thresholds_and_heads_without_a_clip_are_refused(web, tmp_path, capsys):
    assert curated(web, tmp_path / "a", "--keep-best", "0.5") == 2
    assert "needs a CLIP to score them" in capsys.readouterr().err
    assert curated(web, tmp_path / "b", "--min-aesthetic", "5") == 2
    assert "needs a head or scores of your own" in capsys.readouterr().err
    with pytest.raises(UsageError, match="say which CLIP with --clip"):
        Examination("web", aesthetic="head.pth")


def test_scores_of_ones_own_are_read_from_tables(tmp_path):
    (tmp_path / "a.csv").write_text("picture,score\na.jpg,3.5\nb.jpg,7\n")
    (tmp_path / "a.jsonl").write_text(
        '{"picture": "a.jpg", "score": 3.5}\n\n{"picture": "b.jpg", "score": "7"}\n'
    )
    for name in ("a.csv", "a.jsonl"):
        assert read_scores(tmp_path / name) == [("a.jpg", 3.5), ("b.jpg", 7.0)]
    (tmp_path / "b.csv").write_text("file,score\na.jpg,3\n")
    (tmp_path / "b.jsonl").write_text("{broken\n")
    for name in ("b.csv", "b.jsonl"):
        with pytest.raises(DataError, match=r"Row 1 of .* has no picture with a score"):
            read_scores(tmp_path / name)
    with pytest.raises(DataError, match="Cannot read scores"):
        read_scores(tmp_path / "c.csv")


# Workers


def test_processes_do_every_piece_once_and_pass_on_errors(tmp_path):
    with Local(2) as local:
        assert sorted(local.each(note, tmp_path, range(12))) == list(range(12))
        assert str(os.getpid()) not in {path.read_text() for path in tmp_path.iterdir()}
        with pytest.raises(DataError, match="piece -1 is bad"):
            list(local.each(note, tmp_path, [20, -1]))
        assert list(local.each(note, tmp_path, [30])) == [30]
    with pytest.raises(UsageError, match="no work without workers, got 0"):
        engine("local", 0)


def test_workers_end_with_the_process_that_started_them(tmp_path):
    def parent() -> None:
        with Local(2) as local:
            for _ in local.each(note, tmp_path, range(50)):
                os.kill(os.getpid(), signal.SIGKILL)

    process = FORK.Process(target=parent)
    process.start()
    process.join()
    workers = {int(path.read_text() or 0) for path in tmp_path.iterdir()} - {0}
    assert workers
    deadline = time.monotonic() + 5
    while workers and time.monotonic() < deadline:
        workers = {pid for pid in workers if Path(f"/proc/{pid}").exists()}
        time.sleep(0.05)
    assert not workers


def test_without_ray_its_engine_says_how_to_get_it():
    try:
        import ray  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"pip install 'sfumato\[scale\]'"), engine("ray", 2):
            pass


@pytest.mark.learn
def test_two_workers_make_the_same_shards(web, reference, tmp_path):
    out = tmp_path / "shards"
    assert main(["curate", str(web), "--out", str(out), *EASY, "--workers", "2"]) == 0
    same(out, reference)


@pytest.mark.ray
def test_ray_makes_the_same_shards(web, reference, tmp_path):
    out = tmp_path / "shards"
    assert main(["curate", str(web), "--out", str(out), *EASY, "--workers", "2", "--engine", "ray"]) == 0
    same(out, reference)


def test_a_folder_of_shards_is_shown_as_data(reference, tmp_path, capsys):
    assert main(["data", str(reference), "--json", "--size", "8", "--out", str(tmp_path / "a.png")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["examples"], told["fields"]) == (18, ["caption", "image"])
    assert (tmp_path / "a.png").exists()


def test_options_become_a_curation(tmp_path):
    (tmp_path / "words").write_text("forbidden fruit")
    options = Options(
        source=tmp_path, out=tmp_path / "o", min_chars=3, words=tmp_path / "words", size=64, shard_size=7
    )
    made = curation_of(options)
    assert made.examination.rules.min_chars == 3
    assert made.examination.words == ("forbidden", "fruit")
    assert (made.size, made.shard) == (64, 7)
    with pytest.raises(UsageError, match="at least 1 sample, not 0"):
        folder.Curation(tmp_path, Examination("x"), shard=0)
    with pytest.raises(DataError, match="Cannot read words"):
        curation_of(Options(source=tmp_path, out=tmp_path / "o", words=tmp_path / "none"))
