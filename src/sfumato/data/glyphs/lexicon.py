"""What is written: pronounceable words that nobody knows, common English words, and numbers."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

from sfumato.data.glyphs.skeletons import DIGITS, LOWER

TEST = 5
"""Every fifth word, by its checksum, is kept for testing."""
HELD_FROM = 3
"""Letters from which words are kept for testing: of shorter ones there are too few."""
COMMON_SHARE = 0.25
STIR = 0.1
"""Share of the letters of invented words that may be any, so that rare ones and rare neighbours occur."""
ONSETS = (
    "b c d f g h j k l m n p qu r s t v w x y z bl br ch cl cr dr fl fr gl gr kn ph pl pr sc sh sk sl sm sn "
    "sp st str sw th tr tw wh wr"
)
NUCLEI = "a a a e e e e i i i o o o u u y ai au ea ee ei ie oa oo ou ow ue"
CODAS = (
    "b c ck d f g k l ll m n n n ng nk nt p r r rd rk rm rn rt s s sh ss st t t th v w x z ct ft ld lk lp "
    "mp nd"
)
CODA_SHARE = 0.55
COMMON = (
    "about above across after again against almost alone along also although always among another answer "
    "apple around arrive art autumn away baker balance beach because become bell below beside best better "
    "between beyond big bird black blue boat book both bread bridge bright bring brother brown build busy "
    "butter call candle carry castle certain chair change child circle city clean clear clock close cloud "
    "coat cold colour come common cook corner country course cover cross dance dark daughter deep desk door "
    "double down draw dream drink drive dust early earth east easy edge eight either else empty enough even "
    "ever every example eye face fall family far farm father feather field fifty figure final find finger "
    "fire first fish five flower fly follow food forest form forward four fox free fresh friend from front "
    "fruit full game garden gate gather girl give glass goat gold good grass great green ground group grow "
    "guide half hand happen harbour hat head hear heart heavy help high hill history hold home horse house "
    "however hundred idea inch island jacket job join journey judge juice jump keep kettle key kind king "
    "kitchen knife know lake lamp language large last laugh lazy leaf learn leave left letter level light "
    "line listen little long look low machine make many map market matter maybe measure middle milk mind "
    "minute moment money month moon morning mother mountain mouth move much museum music name narrow nature "
    "near never new night nine north nothing notice number object ocean office often old only open orange "
    "order other over own page paint paper part past path pattern people perhaps piece place plain plant "
    "play please pocket point poor possible power pretty print problem pull question quick quiet quite rain "
    "reach read ready real reason red remember rest rich right river road rock roof room rose round run sail "
    "same sand school science sea second see seed sentence seven shade shape sharp ship short should show "
    "side silver simple since sing sister six size sky sleep slow small smoke snow soft some song soon sound "
    "south space speak spring square stand star start state step still stone story street strong study such "
    "sugar summer sun supper sure surface table tail take tall ten thank their there thing think third this "
    "thousand three through time today together tomorrow tower town train travel tree true turn twelve under "
    "until upon use valley very village visit voice wait walk wall warm watch water wave wax west wheel when "
    "where which while white whole wide wild will wind window wing winter wise wish with without wonder wood "
    "word work world would write yard year yellow yes yesterday young zebra zero zoo"
)


def held(word: str) -> bool:
    """Whether a word is kept for testing."""
    return zlib.crc32(word.encode()) % TEST == 0


_ONSETS, _NUCLEI, _CODAS, _WORDS = (text.split() for text in (ONSETS, NUCLEI, CODAS, COMMON))
_COMMON = {split: [word for word in _WORDS if held(word) == (split == "test")] for split in ("train", "test")}


def draw_texts(
    split: str, indices: Sequence[int], letters: tuple[int, int], *, numbers: float, capitals: float
) -> list[str]:
    """The texts with these numbers; none of "train" is among those of "test"."""
    return [_text(split, index, letters, numbers, capitals) for index in indices]


def _text(split: str, index: int, letters: tuple[int, int], numbers: float, capitals: float) -> str:
    dice = random.Random(f"words/{split}/{index}")
    wanted = dice.randint(*letters)
    kind, capital = dice.random(), dice.random() < capitals
    while True:
        if kind < numbers:
            text = "".join(dice.choices(DIGITS, k=wanted))
        else:
            common = kind < numbers + COMMON_SHARE * (1 - numbers)
            text = dice.choice(_COMMON[split]) if common else _invented(dice, wanted)
            if not letters[0] <= len(text) <= letters[1]:
                kind = 1.0  # no common word of this length came up: invent one
                continue
        if len(text) < HELD_FROM or held(text) == (split == "test"):
            return text.capitalize() if capital else text


def _invented(dice: random.Random, length: int) -> str:
    """Syllables until there are enough letters; some of them then changed into any other."""
    text = ""
    while len(text) < length:
        text += dice.choice(_ONSETS) + dice.choice(_NUCLEI)
        if dice.random() < CODA_SHARE:
            text += dice.choice(_CODAS)
    return "".join(dice.choice(LOWER) if dice.random() < STIR else c for c in text[:length])
