"""Rules for texts and sizes, the language of short texts, and warning words."""

from __future__ import annotations

import dataclasses

import pytest

from sfumato.apps.curate import Options
from sfumato.data.language import LANGUAGES, checked_languages, language
from sfumato.data.rules import Rules, WarningWords
from sfumato.errors import UsageError


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ring", "text too short"),
        ("rings", ""),
        ("x " * 501, "text too long"),
        ("DSC_0042.jpeg", "text is a file name"),
        ("https://a.org/b", "text is a file name"),
        ("a red circle.jpg and more", ""),
        ("ein roter Kreis auf dem Tisch", "language"),
        ("Nikon D750", ""),
        ("пять кругов", "language"),
    ],
)
def test_texts(text, reason):
    assert Rules().text(text)[0] == reason
    assert Rules(languages=("any",)).text(text)[0] == ("" if reason == "language" else reason)


@pytest.mark.parametrize(
    ("height", "width", "reason"),
    [
        (63, 100, "too few pixels"),
        (64, 192, ""),
        (64, 193, "too long and narrow"),
        (193, 64, "too long and narrow"),
    ],
)
def test_sizes(height, width, reason):
    assert Rules().picture(height, width) == reason
    assert Rules().file(4999) == "file too small"
    assert Rules().file(5000) == ""


def test_the_command_has_the_rules_as_they_are():
    options = {field.name: field.default for field in dataclasses.fields(Options)}
    assert {field.name: field.default for field in dataclasses.fields(Rules)}.items() <= options.items()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_chars": 9, "max_chars": 8}, "give min <= max"),
        ({"max_aspect": 0.5}, "at least 1, got 0.5"),
        ({"min_side": 0}, "No picture has 0 pixels"),
        ({"max_pixels": 100}, "No picture has 64 pixels"),
        ({"languages": ("english",)}, "Unknown language 'english'"),
    ],
)
def test_rules_that_no_picture_keeps_are_errors(settings, message):
    with pytest.raises(UsageError, match=message):
        Rules(**settings)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a dog on the beach", "en"),
        ("red shoes", "en"),
        ("the house where they live", "en"),
        ("der Hund und die Katze", "de"),
        ("une maison avec un jardin", "fr"),
        ("la casa de los niños en la playa", "es"),
        ("o menino e a menina não estão", "pt"),
        ("il gatto della nonna", "it"),
        ("een huis op het strand", "nl"),
        ("dom i ogród przy drodze, który jest stary", "pl"),
        ("ev ve bahçe için güzel bir gün", "tr"),
        ("собака на пляже", "ru"),
        ("київ увечері її", "uk"),
        ("東京の夜", "ja"),
        ("北京", "zh"),
        ("서울의 밤", "ko"),
        ("σκύλος", "el"),
        ("una casa", "other"),
        ("IKEA BILLY 80x200", "nolang"),
        ("12 / 34", "nolang"),
        ("", "nolang"),
        ("size L, lens D 750", "nolang"),
    ],
)
def test_languages_of_short_texts(text, code):
    assert language(text) == code
    assert checked_languages((code,)) == (code,)


def test_every_language_is_named_once():
    assert len(LANGUAGES) == len(set(LANGUAGES))


def test_warning_words():
    words = WarningWords()
    assert words.tag("naked truth") == "likely"
    assert words.tag("Essex and Sussex", "http://a.org/class.jpg") == "unlikely"  # words, not parts of words
    assert words.tag("a dress", "http://a.org/xxx/1.jpg") == "likely"
    assert words.tag("bikini") == "unsure"
    assert words.more(["Bikini swim\n"]).tag("bikini") == "likely"
