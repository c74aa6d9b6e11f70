"""Addresses seen before and pictures that look alike: none forgotten, few mistaken."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn

from sfumato.data import dedup
from sfumato.data.dedup import Bloom, Look, Looks, look
from sfumato.data.faces import Faces
from sfumato.errors import UsageError
from sfumato.images import open_image, to_pil


def test_bloom_forgets_nothing_and_seldom_errs():
    seen, error = Bloom(error=0.02, room=200), 0.02
    texts = [f"http://a.org/{i}.jpg" for i in range(2000)]
    mistaken = sum(not seen.add(text) for text in texts)
    assert not any(seen.add(text) for text in texts)
    assert mistaken <= error * len(texts)
    assert mistaken >= 1  # it is no set of all texts: these would need 20 times its memory
    assert seen.bytes < 3 * len(texts)
    with pytest.raises(UsageError, match="0 < error < 1"):
        Bloom(error=0.0)


def test_hash_is_of_the_slowest_waves():
    grey = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
    image = Image.fromarray(grey)
    waves = dctn(grey.astype(float), norm="ortho")
    order = sorted((i + j, i, j) for i in range(32) for j in range(32))[1:65]
    slow = np.array([waves[i, j] for _, i, j in order])
    bits = "".join("1" if wave > np.median(slow) else "0" for wave in slow)
    found = look(image)
    assert f"{found.hash:064b}" == bits
    assert bits.count("1") == 32
    assert found.aspect == 0
    assert look(image, (64, 16)).aspect == pytest.approx(math.log(4))
    assert len(found.colours) == 8 * 8 * 3


def flipped(hashed: int, bits) -> int:
    return hashed ^ sum(1 << int(b) for b in bits)


def test_every_hash_within_the_radius_is_found_and_none_beyond():
    dice = np.random.default_rng(1)
    hashes = [int(x) for x in dice.integers(0, 2**63, 300)]
    seen = Looks(radius=10)
    for hashed in hashes:
        seen.add(Look(hashed, bytes(192), 0.0))
    for number, hashed in enumerate(hashes[:60]):
        for apart in (0, 3, 10):
            bits = dice.choice(64, apart, replace=False)
            assert seen.find(Look(flipped(hashed, bits), bytes(192), 0.0)) == number
        assert seen.find(Look(flipped(hashed, dice.choice(64, 11, replace=False)), bytes(192), 0.0)) is None


def test_bits_alone_do_not_make_a_copy():
    seen = Looks()
    seen.add(Look(5, bytes([100] * 192), 0.0))
    near, one = bytes([106] * 192), bytes([100] * 189 + [107] * 3)
    assert seen.find(Look(5, near, 0.0)) == 0
    assert seen.find(Look(5, one, 0.0)) is None  # one place of 64 is another
    assert seen.find(Look(5, near, 0.06)) is None
    assert seen.find(Look(5, near, 0.04)) == 0


def _plain(number: int) -> bytes:
    return bytes([20 * (number % 12), 20 * (number // 12 % 12), 20 * (number // 144)] * 64)


def test_more_pictures_than_first_room_was_made_for():
    seen = Looks()
    for number in range(1100):
        assert seen.add(Look(number << 20, _plain(number), 0.0)) == number
    assert seen.find(Look(1099 << 20, _plain(1099), 0.0)) == 1099
    assert len(seen) == 1100
    with pytest.raises(UsageError, match="usual radius is 10"):
        Looks(radius=64)


def packed(picture: Image.Image, side: int, quality: int) -> Look:
    buffer = io.BytesIO()
    picture.resize((side, side), Image.Resampling.BILINEAR).save(buffer, "JPEG", quality=quality)
    return look(open_image(buffer, at_least=(64, 64)), (side, side))


def test_copies_are_found_and_others_are_not():
    pictures = [to_pil(x) for x in Faces("train", 64).batch(torch.arange(100))["image"]]
    seen, dice = Looks(), np.random.default_rng(2)
    mistaken = 0
    for picture in pictures:
        one = packed(picture, 128, 90)
        mistaken += seen.find(one) is not None
        seen.add(one)
    found = sum(
        seen.find(packed(picture, int(dice.integers(80, 200)), int(dice.integers(60, 95)))) == number
        for number, picture in enumerate(pictures)
    )
    assert found >= 0.95 * len(pictures)
    assert mistaken <= 0.01 * len(pictures)
    turned = sum(seen.find(packed(p.rotate(90), 128, 90)) is not None for p in pictures[:40])
    assert turned <= 1


def test_changes_of_a_piece_are_all_there():
    assert len(dedup._masks(2)) == 1 + 16 + 120
    assert max(mask.bit_count() for mask in dedup._masks(2)) == 2
