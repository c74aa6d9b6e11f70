"""Pictures: every kind of broken or unusual file, and PNGs that remember their settings."""

from __future__ import annotations

import io
import json
import resource
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.errors import DataError, StorageError, UsageError
from sfumato.images import (
    PictureError,
    fit,
    from_levels,
    gif,
    grid,
    measure,
    open_image,
    read_settings,
    save_png,
    to_levels,
    to_pil,
    to_tensor,
)


def colourful(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture JPEG can hold almost exactly."""
    y, x = np.mgrid[0:height, 0:width]
    levels = np.stack([x * 255 / width, y * 255 / height, 255 - (x + y) * 255 / (width + height)], -1)
    return levels.astype(np.uint8)


def bytes_of(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """Write a PNG by hand: Pillow cannot write 16-bit colour."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + data + chunk(b"IEND", b"")


# Files that cannot be read


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "the file is empty"),
        ("page.jpg", b"\n<!DOCTYPE html><html><body>404</body></html>", "web page or other markup"),
        ("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "web page or other markup"),
        ("noise.png", bytes(range(256)), "none of PNG, JPEG, WEBP"),
        ("half.jpg", bytes_of(Image.fromarray(colourful(90, 70)), "JPEG")[:2000], "truncated"),
        ("half.png", bytes_of(Image.fromarray(colourful(90, 70)), "PNG")[:2000], "truncated"),
        ("half.webp", bytes_of(Image.fromarray(colourful(90, 70)), "WEBP")[:1000], "."),
        ("animation.jpg", bytes_of(Image.fromarray(colourful(9, 7)), "GIF"), "none of PNG, JPEG, WEBP"),
        ("short.png", b"\x89PNG\r\n\x1a\n\x00\x00", "header is damaged"),
    ],
)
def test_broken_file_is_refused_with_name_and_reason(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"Cannot read picture '.*{name}': .*{reason}"):
        open_image(tmp_path / name)
    with pytest.raises(DataError, match=f"Cannot read picture 'uploaded file': .*{reason}"):
        open_image(io.BytesIO(content))


def test_flipped_bits_are_noticed_where_the_format_has_checksums(tmp_path):
    content = bytearray(bytes_of(Image.fromarray(colourful(40, 50)), "PNG"))
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png"):
        open_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_random_damage_is_either_survived_or_explained():
    dice = np.random.default_rng(0)
    image = Image.fromarray(colourful(20, 24))
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = [
        bytes_of(image, "JPEG", exif=exif),
        bytes_of(image.convert("CMYK"), "JPEG", progressive=True),
        bytes_of(image, "PNG", exif=exif, save_all=True, append_images=[image.rotate(90)]),
        bytes_of(image.convert("P"), "PNG", transparency=3),
        bytes_of(image.convert("RGBA"), "WEBP", lossless=True, exif=exif),
    ]
    read, refused = 0, 0
    for trial in range(500):
        content = np.frombuffer(whole[trial % len(whole)], np.uint8).copy()
        places = dice.integers(0, len(content), dice.integers(1, 6))
        content[places] = dice.integers(0, 256, len(places))
        try:
            assert open_image(io.BytesIO(content.tobytes())).mode in ("L", "RGB")
            read += 1
        except PictureError:
            refused += 1
    assert min(read, refused) > 50


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        open_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="Is a directory"):
        open_image(tmp_path)


@pytest.mark.parametrize(("width", "height"), [(9000, 9000), (9500, 9500), (30000, 30000), (65535, 65535)])
@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_decompression_bomb_is_refused_before_decoding(tmp_path, width, height):
    """Had it been decoded, the error would be that the pixels are missing."""
    (tmp_path / "bomb.png").write_bytes(png(width, height, 8, 0, bytes(1000)))
    with pytest.raises(DataError, match=r"bomb\.png': (\d+ x \d+ pixels are more|its size makes it)"):
        open_image(tmp_path / "bomb.png")
    with pytest.raises(DataError, match="pixels are more than the 100 allowed"):
        open_image(io.BytesIO(bytes_of(Image.new("L", (11, 10)), "PNG")), max_pixels=100)


def test_other_formats_are_opened_only_when_named():
    gif = bytes_of(Image.new("RGB", (5, 3), (255, 0, 0)), "GIF")
    assert open_image(io.BytesIO(gif), formats=("GIF",)).size == (5, 3)
    with pytest.raises(DataError, match="none of PNG"):
        open_image(io.BytesIO(gif))


# Unusual files that can be read


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_colour_is_exact(kind):
    levels = colourful(7, 5)
    image = open_image(io.BytesIO(bytes_of(Image.fromarray(levels), kind, lossless=True)))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), levels)


def test_grey_stays_grey_and_becomes_colour_on_demand():
    levels = colourful(6, 4, 1)[:, :, 0]
    image = open_image(io.BytesIO(bytes_of(Image.fromarray(levels), "PNG")))
    assert image.mode == "L"
    assert to_tensor(image, 1).shape == (1, 6, 4)
    assert to_tensor(image).shape == (3, 6, 4)
    assert torch.equal(to_tensor(image)[2], to_tensor(image, 1)[0])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_over_white(mode):
    levels = colourful(5, 9, len(mode))
    image = open_image(io.BytesIO(bytes_of(Image.fromarray(levels, mode), "PNG")))
    assert image.mode == mode[:-1]
    alpha = levels[:, :, -1:].astype(float) / 255
    expected = levels[:, :, :-1] * alpha + 255 * (1 - alpha)
    got = np.asarray(image).reshape(expected.shape)
    assert np.abs(got - expected).max() <= 1.5
    assert (got[levels[:, :, -1] == 0] == 255).all()


def test_palette_with_and_without_transparent_entry():
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    plain = open_image(io.BytesIO(bytes_of(image, "PNG")))
    assert np.asarray(plain).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    clear = open_image(io.BytesIO(bytes_of(image, "PNG", transparency=1)))
    assert np.asarray(clear).tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]


def test_one_bit_picture():
    bits = Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert("1")
    assert np.asarray(open_image(io.BytesIO(bytes_of(bits, "PNG")))).tolist() == [[0, 255, 0]]


def test_cmyk_jpeg_keeps_its_colours():
    rgb = smooth(24, 40)
    cmyk = Image.fromarray(rgb).convert("CMYK")
    image = open_image(io.BytesIO(bytes_of(cmyk, "JPEG", quality=100)))
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - rgb).mean() < 3


def test_16_bit_grey_is_scaled_not_cut():
    values = np.array([[0, 257, 1000, 32768, 65535]], ">u2")
    image = open_image(io.BytesIO(png(5, 1, 16, 0, b"\0" + values.tobytes())))
    assert np.asarray(image).tolist() == [[0, 1, 4, 128, 255]]


def test_16_bit_grey_with_a_transparent_value():
    values = np.array([[0, 1000]], ">u2")
    clear = chunk(b"tRNS", struct.pack(">H", 1000))
    image = open_image(io.BytesIO(png(2, 1, 16, 0, b"\0" + values.tobytes(), clear)))
    assert np.asarray(image).tolist() == [[0, 255]]


def test_16_bit_colour_and_alpha():
    values = np.array([[65535, 32768, 0, 65535, 32768, 32768, 32768, 0]], ">u2")
    image = open_image(io.BytesIO(png(2, 1, 16, 6, b"\0" + values.tobytes())))
    assert np.asarray(image).tolist() == [[[255, 128, 0], [255, 255, 255]]]


# Colour profiles

SRGB_PRIMARIES = ((0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""As CIE XYZ under D50, as profiles hold them."""


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(space: bytes, primaries=SRGB_PRIMARIES, name: bytes = b"test") -> bytes:
    """An ICC profile of version 2 written by hand, whose numbers are proportional to light."""
    white = (0.9642, 1.0, 0.8249)
    linear = b"curv" + bytes(4) + struct.pack(">I", 0)
    said = b"desc" + bytes(4) + struct.pack(">I", len(name) + 1) + name + bytes(1 + 4 + 4 + 2 + 1 + 67)
    tags = {b"desc": said, b"cprt": b"text" + bytes(5), b"wtpt": b"XYZ " + bytes(4) + fixed(*white)}
    if space == b"GRAY":
        tags[b"kTRC"] = linear
    else:
        for letter, xyz in zip(b"rgb", primaries, strict=True):
            tags[bytes([letter]) + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*xyz)
            tags[bytes([letter]) + b"TRC"] = linear
    place, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        table += tag + struct.pack(">II", place + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12x4s", place + len(body), b"    ", 0x02400000, b"mntr", space, b"XYZ ", b"acsp"
    )
    return head + bytes(68 - len(head)) + fixed(*white) + bytes(48) + table + body


def encoded(light: np.ndarray) -> np.ndarray:
    """Light in [0, 255] as sRGB writes it (IEC 61966-2-1)."""
    share = light / 255
    return 255 * np.where(share <= 0.0031308, 12.92 * share, 1.055 * share ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_colours_of_another_profile_become_those_of_srgb(kind):
    levels = np.full((8, 16, 3), (40, 90, 200), dtype=np.uint8)
    swapped = (SRGB_PRIMARIES[1], SRGB_PRIMARIES[0], SRGB_PRIMARIES[2])
    for primaries, order in ((SRGB_PRIMARIES, [0, 1, 2]), (swapped, [1, 0, 2])):
        data = bytes_of(Image.fromarray(levels), kind, icc_profile=profile(b"RGB ", primaries))
        plain = np.asarray(open_image(io.BytesIO(bytes_of(Image.fromarray(levels), kind)))).astype(float)
        got = np.asarray(open_image(io.BytesIO(data)))
        assert np.abs(got - encoded(plain)[..., order]).max() <= 2


def test_grey_and_transparent_pictures_have_profiles_too():
    # The darkest levels are left out, where light grows faster than the tables of littlecms are fine.
    grey = Image.fromarray(np.arange(8, 248, dtype=np.uint8).reshape(8, 30))
    got = open_image(io.BytesIO(bytes_of(grey, "PNG", icc_profile=profile(b"GRAY"))))
    assert got.mode == "L"
    assert np.abs(np.asarray(got) - encoded(np.asarray(grey).astype(float))).max() <= 2

    clear = Image.new("RGBA", (4, 3), (40, 90, 200, 0))
    clear.putpixel((1, 2), (40, 90, 200, 255))
    got = open_image(io.BytesIO(bytes_of(clear, "PNG", icc_profile=profile(b"RGB "))))
    assert got.getpixel((0, 0)) == (255, 255, 255)
    assert np.abs(np.array(got.getpixel((1, 2))) - encoded(np.array([40.0, 90, 200]))).max() <= 2
    one = Image.fromarray(np.full((3, 4, 3), 90, dtype=np.uint8))
    data = bytes_of(one, "PNG", icc_profile=profile(b"RGB "), transparency=(90, 90, 90))
    assert open_image(io.BytesIO(data)).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    "embedded", [b"no profile", profile(b"GRAY"), profile(b"RGB ", name=b"sRGB of a camera")]
)
def test_profiles_that_say_nothing_or_cannot_be_used_change_nothing(embedded):
    levels = colourful(5, 7)
    data = bytes_of(Image.fromarray(levels), "PNG", icc_profile=embedded)
    assert np.array_equal(np.asarray(open_image(io.BytesIO(data))), levels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_orientation_is_applied(orientation, kind):
    levels = colourful(5, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = open_image(io.BytesIO(bytes_of(Image.fromarray(levels), kind, exif=exif, lossless=True)))
    swapped = levels.transpose(1, 0, 2)
    upright = {
        1: levels,
        2: levels[:, ::-1],
        3: levels[::-1, ::-1],
        4: levels[::-1],
        5: swapped,
        6: swapped[:, ::-1],
        7: swapped[::-1, ::-1],
        8: swapped[::-1],
    }[orientation]
    assert np.array_equal(np.asarray(image), upright)


def test_illegible_exif_leaves_the_picture_as_it_is():
    content = bytes_of(Image.fromarray(smooth(16, 24)), "JPEG", exif=b"Exif\0\0nonsense" + bytes(40))
    assert open_image(io.BytesIO(content)).size == (24, 16)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animation_gives_its_first_frame(kind):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "green", "blue")]
    content = bytes_of(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert np.asarray(open_image(io.BytesIO(content)))[2, 3].tolist() == [255, 0, 0]


def test_single_pixel():
    image = open_image(io.BytesIO(bytes_of(Image.new("RGB", (1, 1), (10, 20, 30)), "PNG")))
    assert np.asarray(fit(image, 5, 3)).reshape(-1, 3).tolist() == [[10, 20, 30]] * 15


def test_large_jpeg_may_be_decoded_smaller():
    content = bytes_of(Image.fromarray(smooth(800, 1200)), "JPEG", quality=95)
    small = open_image(io.BytesIO(content), at_least=(100, 70))
    assert small.size == (300, 200)
    whole = open_image(io.BytesIO(content))
    difference = to_tensor(fit(small, 100, 70)) - to_tensor(fit(whole, 100, 70))
    assert difference.abs().max() < 0.03


def test_measure_reads_only_the_header():
    assert measure(io.BytesIO(bytes_of(Image.new("RGB", (30, 20)), "JPEG"))) == ("JPEG", 20, 30)
    half = bytes_of(Image.fromarray(colourful(90, 70)), "JPEG")[:2000]
    assert measure(io.BytesIO(half)) == ("JPEG", 90, 70)
    with pytest.raises(DataError, match="the file is empty"):
        measure(io.BytesIO(b""))


# Between pictures and tensors


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_survive_the_way_to_tensors_and_back(channels):
    levels = np.arange(256, dtype=np.uint8).reshape(32, 8).repeat(channels, 1).reshape(32, 8, channels)
    image = Image.fromarray(levels[:, :, 0] if channels == 1 else levels)
    x = to_tensor(image, channels)
    assert x.shape == (channels, 32, 8)
    assert x.min() == -1
    assert x.max() == 1
    assert np.array_equal(np.asarray(to_pil(x)), np.asarray(image))
    assert torch.equal(from_levels(to_levels(image, channels)[None])[0], x)


def test_to_pil_cuts_what_lies_outside_and_refuses_nan():
    assert np.asarray(to_pil(torch.tensor([[[-7.0, 0.0, 9.0]]]))).tolist() == [[0, 128, 255]]
    with pytest.raises(DataError, match="NaN or infinity"):
        to_pil(torch.tensor([[[0.0, float("nan")]]]))
    with pytest.raises(UsageError, match="1 or 3 channels, not 2"):
        to_pil(torch.zeros(2, 4, 5))
    with pytest.raises(UsageError, match="1 or 3 channels, not 4"):
        to_levels(Image.new("RGB", (2, 2)), 4)


def test_fit_crops_the_centre():
    levels = np.zeros((40, 100, 3), np.uint8)
    levels[:, 30:70] = 255
    assert np.asarray(fit(Image.fromarray(levels), 20, 20))[:, 1:-1].min() == 255
    image = Image.fromarray(colourful(9, 7))
    assert fit(image, 9, 7) is image
    assert fit(image, 3, 11).size == (11, 3)


def test_grid_places_pictures_row_by_row():
    pixels = torch.linspace(-1, 1, 5)[:, None, None, None].expand(5, 3, 4, 6)
    sheet = np.asarray(grid(pixels, columns=3, pad=2))
    assert sheet.shape == (2 * (4 + 2) + 2, 3 * (6 + 2) + 2, 3)
    assert (sheet[:2] == 255).all()
    assert sheet[2:6, 2:8].max() == 0
    assert (sheet[8:12, 10:16] == 255).all()
    assert sheet[2, 10, 0] == round(255 / 4)
    assert grid(pixels[:, :1], pad=0).size == (18, 8)
    assert grid(pixels[:, :1]).mode == "L"
    for bad, columns in ((pixels[:0], None), (pixels, 0)):
        with pytest.raises(UsageError, match="at least one picture"):
            grid(bad, columns)


# PNGs that know their settings


SETTINGS = {
    "prompt": "ein roter Kreis, über 蓝色方块 🔵\nzweite Zeile",
    "negative": "blur: all",
    "seed": 2**63 + 12345678901234567,
    "steps": 20,
    "solver": "dpmpp_2m",
    "guidance": 3.0,
    "width": 48,
    "height": 64,
    "nested": {"list": [1, None, True]},
}


def test_settings_survive_in_the_png(tmp_path):
    path = tmp_path / "new" / "a.png"
    levels = colourful(4, 5)
    save_png(Image.fromarray(levels), path, SETTINGS)
    assert read_settings(path) == SETTINGS
    assert np.array_equal(np.asarray(open_image(path)), levels)
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    with Image.open(path) as image:
        assert image.text["parameters"] == (
            "ein roter Kreis, über 蓝色方块 🔵\nzweite Zeile\nNegative prompt: blur: all\n"
            f"Steps: 20, Sampler: dpmpp_2m, CFG scale: 3.0, Seed: {2**63 + 12345678901234567}, Size: 48x64"
        )


def test_latin_parameters_are_plain_text_as_others_expect(tmp_path):
    save_png(
        Image.new("RGB", (2, 2)), tmp_path / "a.png", {"prompt": "a circle", "model": "x, y", "steps": 3}
    )
    content = (tmp_path / "a.png").read_bytes()
    assert b'tEXtparameters\0a circle\nSteps: 3, Model: "x, y"' in content
    assert b"iTXtsfumato\0" in content


@pytest.mark.parametrize(
    "prompt", ["", "NUL \0 inside", "half \ud83d character", "\u202eright to left", "a" * 100_000]
)
def test_strange_prompts_survive(tmp_path, prompt):
    save_png(Image.new("RGB", (2, 2)), tmp_path / "a.png", {"prompt": prompt})
    assert read_settings(tmp_path / "a.png") == {"prompt": prompt}


def test_no_settings_means_no_text(tmp_path):
    save_png(Image.new("RGB", (2, 2)), tmp_path / "a.png", None)
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == {}
    with pytest.raises(DataError, match=r"a\.png' holds no settings"):
        read_settings(tmp_path / "a.png")


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_damaged_settings(tmp_path, text):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("sfumato", text)
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(DataError, match=r"settings in .* are damaged"):
        read_settings(tmp_path / "a.png")


def test_settings_of_something_that_is_no_png(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty"):
        read_settings(tmp_path / "a.png")


def test_full_disk_leaves_the_old_picture_whole(tmp_path):
    path = tmp_path / "a.png"
    save_png(Image.new("RGB", (2, 2)), path, {"seed": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError, match=r"Cannot write picture .*a\.png': File too large; free some"):
            save_png(Image.fromarray(colourful(100, 100)), path, {"seed": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_settings(path) == {"seed": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Cannot write picture"):
        save_png(Image.new("RGB", (2, 2)), tmp_path / "file" / "a.png", None)


def test_a_gif_moves_at_its_rate_and_remembers_its_settings():
    frames = torch.linspace(-1, 1, 4).view(4, 1, 1, 1).expand(4, 3, 6, 5)
    with Image.open(io.BytesIO(gif(frames, 20.0, {"seed": 2**60, "prompt": "é"}))) as film:
        assert (film.n_frames, film.size, film.info["loop"], film.info["duration"]) == (4, (5, 6), 0, 50)
        assert json.loads(film.info["comment"]) == {"seed": 2**60, "prompt": "é"}
        for i, level in enumerate((0, 85, 170, 255)):
            film.seek(i)
            assert film.convert("RGB").getpixel((2, 3)) == (level, level, level)


def test_settings_are_json(tmp_path):
    save_png(Image.new("RGB", (2, 2)), tmp_path / "a.png", SETTINGS)
    with Image.open(tmp_path / "a.png") as image:
        assert json.loads(image.text["sfumato"]) == SETTINGS
