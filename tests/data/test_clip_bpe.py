"""Our CLIP tokenizer against transformers', with a vocabulary made on the spot."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from sfumato.data.clip_bpe import _SYMBOLS, END, ClipTokenizer, words
from sfumato.errors import DataError

TEXT = """a red circle above a blue square, the small green triangle beside the large yellow star; don't we've
painted the sea at night? l'été à Paris, naïve café 3.14 100% photo of cats and dogs in the style of Rembrandt
Привет мир こんにちは 世界 👍🏽 🎨!! the there then them"""
BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def learned_merges(text: str, count: int) -> list[tuple[str, str]]:
    """Byte-pair encoding as in the paper, in the fewest words."""
    corpus = []
    for word in words(text.lower()):
        symbols = [_SYMBOLS[b] for b in word.encode()]
        corpus.append([*symbols[:-1], symbols[-1] + END])
    merges = []
    for _ in range(count):
        pairs = Counter(pair for word in corpus for pair in pairwise(word))
        if not pairs:
            break
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        for word in corpus:
            i = 0
            while i + 1 < len(word):
                if (word[i], word[i + 1]) == best:
                    word[i : i + 2] = ["".join(best)]
                i += 1
    return merges


MERGES = learned_merges(TEXT, 200)


def vocabulary() -> dict[str, int]:
    symbols = [*_SYMBOLS.values(), *(s + END for s in _SYMBOLS.values()), *("".join(m) for m in MERGES)]
    return {s: i for i, s in enumerate([*dict.fromkeys(symbols), BOS, EOS])}


def token(text: str) -> dict[str, object]:
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    return {"__type": "AddedToken", "content": text, **flags}


SD1 = {"bos_token": token(BOS), "eos_token": token(EOS), "unk_token": token(EOS), "pad_token": EOS}
SD2 = {"bos_token": token(BOS), "eos_token": token(EOS), "unk_token": token(EOS), "pad_token": "!"}
PLAIN = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}


def write(folder, marks, length=19):
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary()))
    lines = ["#version: 0.2", *(" ".join(m) for m in MERGES)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, **marks}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module", params=["SD1", "SD2", "plain", "one file"])
def pair(request, tmp_path_factory):
    marks = {"SD1": SD1, "SD2": SD2, "plain": PLAIN, "one file": SD2}[request.param]
    folder = write(tmp_path_factory.mktemp("words"), marks)
    theirs = CLIPTokenizer.from_pretrained(folder)
    if request.param == "one file":
        folder = folder.with_name(folder.name + "-saved")
        theirs.save_pretrained(folder)
        assert not (folder / "vocab.json").exists()
    return ClipTokenizer.read(folder), theirs


ANY = st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=40)
LIKELY = st.text(
    st.sampled_from("aAbéÉßİıΣσς'’\"sStTrReE0٣½²Ⅷ!?.,|<>#日本ก้́ \t\n\x1c\x85\u200d\u3000👍🏽🇨🇭"),  # noqa: RUF001
    max_size=40,
)
PIECES = st.lists(
    st.sampled_from(
        [
            BOS,
            EOS,
            BOS.upper(),
            EOS.upper(),
            "!",
            " ",
            "the",
            "The",
            "don't",
            "WE'VE",
            "cat",
            "42",
            "👍🏽",
            "'",
        ]
    ),
    max_size=12,
).map("".join)


@settings(max_examples=80, deadline=None)
@given(text=ANY | LIKELY | PIECES)
@example(text=TEXT)
@example(text="")
@example(text="'S 'll''d")
@example(text="ΟΔΟΣ Σ.")
def test_equals_transformers(pair, text):
    ours, theirs = pair
    want = theirs(text, padding="max_length", max_length=19, truncation=True)["input_ids"]
    assert ours.encode([text]).tokens.tolist() == [want]
    assert list(ours.numbers(text)) == theirs(text, add_special_tokens=False)["input_ids"]


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(exclude_categories=("Cs", "Cn", "Cc")), max_size=30))
def test_decoding_gives_the_text_back(pair, text):
    ours, _ = pair
    plain = "".join(c.lower() for c in unicodedata.normalize("NFC", text))
    again = ours.decode(list(ours.numbers(text)))
    assert re.sub(r"\s", "", again) == re.sub(r"\s", "", plain)


def test_what_does_not_fit_is_reported(pair):
    ours, theirs = pair
    text = "the red circle " * 9
    tokens, dropped = ours.encode([text, "the"])
    whole = theirs(text, add_special_tokens=False)["input_ids"]
    assert tokens.shape == (2, 19)
    assert tokens[0, -1] == ours.eos
    assert dropped.tolist() == [len(whole) - 17, 0]
    assert (ours.decode(tokens[0, 1:-1].tolist()) + " " + ours.lost(text)).split() == text.split()
    assert ours.lost("the") == ""


def test_no_texts_give_no_rows(pair):
    tokens, dropped = pair[0].encode([])
    assert tokens.shape == (0, 19)
    assert dropped.shape == (0,)


def test_padding_follows_the_model(tmp_path):
    one, two = (ClipTokenizer.read(write(tmp_path / n, m)) for n, m in (("1", SD1), ("2", SD2)))
    assert one.encode(["the"]).tokens[0, 2:].tolist() == [one.eos] * 17
    assert two.encode(["the"]).tokens[0, 2:].tolist() == [two.eos, *[two.vocabulary["!"]] * 16]


def test_marks_from_the_other_files(tmp_path):
    folder = write(tmp_path, SD1)
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "!"}))
    ours, theirs = ClipTokenizer.read(folder), CLIPTokenizer.from_pretrained(folder)
    assert ours.pad == theirs.pad_token_id == 0
    listed = {str(vocabulary()[BOS]): {k: v for k, v in token(BOS).items() if k != "__type"}}
    write(folder, {**PLAIN, "added_tokens_decoder": listed})
    ours, theirs = ClipTokenizer.read(folder), CLIPTokenizer.from_pretrained(folder)
    text = f"the {BOS.upper()} cat{EOS.upper()}"
    assert ours.pad == theirs.pad_token_id == ours.eos
    assert list(ours.numbers(text)) == theirs(text, add_special_tokens=False)["input_ids"]


def test_written_files_give_the_same_tokenizer(tmp_path):
    ours = ClipTokenizer.read(write(tmp_path / "a", SD2))
    ours.write(tmp_path / "b")
    assert list(ClipTokenizer.read(tmp_path / "b").numbers(TEXT)) == list(ours.numbers(TEXT))
    assert (tmp_path / "a" / "vocab.json").read_bytes() == (tmp_path / "b" / "vocab.json").read_bytes()


def test_one_file_is_written_as_two(pair, tmp_path):
    ours, theirs = pair
    ours.write(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    assert again(TEXT)["input_ids"] == theirs(TEXT)["input_ids"] == [ours.bos, *ours.numbers(TEXT), ours.eos]
    assert again.pad_token_id == ours.pad == theirs.pad_token_id


def test_added_tokens_are_found(tmp_path):
    theirs = CLIPTokenizer.from_pretrained(write(tmp_path / "a", PLAIN))
    theirs.add_tokens(["<cat-toy>", "sks"])
    theirs.save_pretrained(tmp_path / "b")
    ours = ClipTokenizer.read(tmp_path / "b")
    for text in ("a <cat-toy> and a sks dog", "<CAT-TOY>SKSa"):
        assert list(ours.numbers(text)) == theirs(text, add_special_tokens=False)["input_ids"]


def test_another_kind_of_tokenizer_is_refused(tmp_path):
    theirs = CLIPTokenizer.from_pretrained(write(tmp_path / "a", PLAIN))
    theirs.save_pretrained(tmp_path / "b")
    file = tmp_path / "b" / "tokenizer.json"
    file.write_text(file.read_text().replace('"Lowercase"', '"StripAccents"'))
    with pytest.raises(DataError, match="another kind of tokenizer than CLIP's"):
        ClipTokenizer.read(tmp_path / "b")


def test_an_unknown_symbol_becomes_the_unknown_token():
    vocab = {"a</w>": 0, BOS: 1, EOS: 2}
    ours = ClipTokenizer({"vocab.json": json.dumps(vocab), "merges.txt": ""})
    assert ours.encode(["a b"]).tokens[0, :4].tolist() == [1, 0, 2, 2]
    assert ours.length == 77


def test_a_very_long_text_costs_little(pair):
    assert pair[0].encode(["x" * 1_000_000]).dropped > 0
    assert pair[0].lost("x" * 1_000_000).endswith("x" * 980_000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: (f / "merges.txt").unlink(),
            "has no merges.txt; a tokenizer has vocab.json and merges.txt, or",
        ),
        (lambda f: (f / "vocab.json").write_text("{"), "vocab.json of the tokenizer is not JSON"),
        (
            lambda f: (f / "vocab.json").write_text("[]"),
            "vocab.json of the tokenizer must hold a JSON object",
        ),
        (
            lambda f: (f / "vocab.json").write_text("{}"),
            r"bos_token '<\|startoftext\|>' is not in its vocabulary",
        ),
        (lambda f: (f / "merges.txt").write_bytes(b"\xff\xfe\xfa"), "is not UTF-8; fetch it again"),
        (
            lambda f: (f / "special_tokens_map.json").write_text(
                json.dumps({"eos_token": token(EOS) | {"lstrip": True}})
            ),
            "eos_token sets 'lstrip', which CLIP's does not",
        ),
    ],
)
def test_broken_folders_are_refused(tmp_path, damage, message):
    damage(write(tmp_path, SD1))
    with pytest.raises(DataError, match=message):
        ClipTokenizer.read(tmp_path)
