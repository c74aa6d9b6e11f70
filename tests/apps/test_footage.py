"""Video in a stream: every frame once, at its moment, upright, and never more than a few in memory."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato import config
from sfumato.apps import footage
from sfumato.apps.cli import main
from sfumato.apps.footage import change, is_video
from sfumato.core.checkpoint import RunFolder
from sfumato.core.recipe import Recipe
from sfumato.errors import DataError
from sfumato.images import save_png, to_pil
from sfumato.nn.image_transform import ImageTransformConfig
from sfumato.systems.style.faststyle import FastStyle, FastStyleConfig

CLOCK = Fraction(1, 90000)
TIMES = (0, 3000, 9000, 12000, 15000, 33000)
"""Of frames that do not come evenly."""


def film(path: Path, *, height: int = 50, width: int = 66, sound: bool = False) -> Path:
    """Frames that grow lighter, the left half darker than the right."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.time_base = stream.codec_context.time_base = CLOCK
        stream.options = {"crf": "8", "preset": "ultrafast"}
        voice = file.add_stream("aac", rate=44100) if sound else None
        for k, time in enumerate(TIMES):
            pixels = np.full((height, width, 3), 60 + 20 * k, dtype=np.uint8)
            pixels[:, width // 2 :] += 60
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, CLOCK
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if voice is not None:
            quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            quiet.sample_rate = 44100
            file.mux(voice.encode(quiet))
            file.mux(voice.encode())
    return path


def seen(path: Path) -> tuple[list[np.ndarray], list[float], str]:
    with av.open(str(path)) as file:
        frames = [(frame.to_ndarray(format="rgb24"), frame.time) for frame in file.decode(video=0)]
        return [f for f, _ in frames], [t for _, t in frames], file.metadata["comment"]


def negative(x: Tensor) -> Tensor:
    return -x


def test_every_frame_is_changed_at_its_moment(tmp_path):
    source, target, told = film(tmp_path / "in.mp4"), tmp_path / "out" / "made.mp4", []
    assert change(source, target, negative, {"model": "x"}, told.append) == ()
    frames, times, comment = seen(target)
    assert times == pytest.approx([time / 90000 for time in TIMES], abs=1e-3)
    assert json.loads(comment) == {"model": "x"}
    for k, frame in enumerate(frames):
        assert frame.shape == (50, 66, 3)
        assert abs(frame[:, :30].mean() - (255 - 60 - 20 * k)) < 4
        assert abs(frame[:, -30:].mean() - (255 - 120 - 20 * k)) < 4
    assert told == sorted(told)
    assert told[-1] == 1
    assert [path.name for path in target.parent.iterdir()] == ["made.mp4"]


def test_few_frames_are_in_memory_together(tmp_path, monkeypatch):
    monkeypatch.setattr(footage, "PIXELS", 2 * 50 * 66)
    sizes = []

    def count(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x

    change(film(tmp_path / "in.mp4"), tmp_path / "out.mp4", count, {}, lambda _: None)
    assert sizes == [2, 2, 2]


def test_odd_sides_turned_frames_and_sound(tmp_path):
    source = film(tmp_path / "in.mov", sound=True)
    notes = change(source, tmp_path / "out.mp4", lambda x: x[:, :, :33, :51], {}, lambda _: None)
    assert notes == (f"'{source}' has sound, which is left out",)
    assert seen(tmp_path / "out.mp4")[0][0].shape == (34, 52, 3)
    change(source, tmp_path / "small.mp4", lambda x: x, {}, lambda _: None, side=33)
    assert seen(tmp_path / "small.mp4")[0][0].shape == (26, 34, 3)  # of 25 x 33, continued to even sides


class Turned:
    """A frame that was taken with the camera on its side."""

    def __init__(self, rotation: float):
        self.rotation = rotation

    def to_image(self):
        pixels = torch.zeros(3, 4, 6) - 1
        pixels[:, 0, 0] = 1
        return to_pil(pixels)


@pytest.mark.parametrize(("rotation", "corner"), [(0, (0, 0)), (90, (5, 0)), (-90, (0, 3)), (180, (3, 5))])
def test_frames_are_set_upright(rotation, corner):
    """Rotation is counter-clockwise, as FFmpeg's display matrix has it."""
    levels = footage._pixels(Turned(rotation), None)
    assert levels[0].argmax() == corner[0] * levels.shape[2] + corner[1]


def test_a_film_that_breaks_off_is_kept_as_far_as_it_goes(tmp_path):
    whole = film(tmp_path / "whole.avi")
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    change(cut, tmp_path / "out.mp4", negative, {}, lambda _: None)
    assert 1 <= len(seen(tmp_path / "out.mp4")[0]) <= len(TIMES)


def test_files_that_hold_no_video(tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("not a film")
    with pytest.raises(DataError, match=r"Cannot read video '.*text.mp4': .*; give another file"):
        change(text, tmp_path / "out.mp4", negative, {}, lambda _: None)
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        voice = file.add_stream("aac", rate=44100)
        quiet = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        quiet.sample_rate = 44100
        file.mux(voice.encode(quiet))
        file.mux(voice.encode())
    with pytest.raises(DataError, match="holds no video; give a file that does"):
        change(tmp_path / "sound.mp4", tmp_path / "out.mp4", negative, {}, lambda _: None)
    assert not (tmp_path / "out.mp4").exists()


def test_the_verb_paints_videos_beside_pictures(tmp_path, capsys):
    shape = ImageTransformConfig(width=2, blocks=1)
    system = FastStyle(FastStyleConfig(network=shape, style_height=1, style_width=1))
    folder = RunFolder.create(tmp_path / "run", Recipe("faststyle", config.to_dict(system.config), size=64))
    folder.write_model(system.state_dict())
    source, picture = film(tmp_path / "in.mp4", sound=True), tmp_path / "still.png"
    save_png(to_pil(torch.zeros(3, 20, 30)), picture)
    words = [
        "stylize",
        str(source),
        str(picture),
        "--model",
        str(folder.path),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*words, "--size", "40"]) == 0
    told = capsys.readouterr()
    names = [Path(line).name for line in told.out.split()]
    assert names == ["in.mp4", "still.png", "sheet.png"]
    assert "has sound, which is left out" in told.err
    assert "1 video and 1 picture" in told.err
    frames, _, comment = seen(tmp_path / "out" / "in.mp4")
    assert (len(frames), frames[0].shape) == (len(TIMES), (30, 40, 3))
    assert json.loads(comment)["file"] == str(source)


def test_videos_are_told_by_their_names():
    assert is_video(Path("a/b.MP4"))
    assert not is_video(Path("a/mp4.jpg"))
