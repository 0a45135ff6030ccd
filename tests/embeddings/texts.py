"""What is embedded with both: the kinds of text that tokenizers and cutting go wrong on."""

from __future__ import annotations

from typing import Final

_WORDS: Final = (
    "the river runs past old stone mills while farmers carry bread apples and letters across "
    "a narrow bridge every morning before the sun is high"
).split()


def words(count: int, shift: int = 0) -> str:
    """So many words, most of them one token."""
    return " ".join(_WORDS[(7 * n + shift) % len(_WORDS)] for n in range(count))


SENTENCES: Final = (
    "The cat sits outside.",
    "A man is playing guitar.",
    "The new movie is awesome.",
    "The quick brown fox jumps over the lazy dog.",
    "How do I reset my password?",
    "Where is the nearest train station?",
    "Paris is the capital of France.",
    "Water boils at 100 degrees Celsius.",
    "He didn't say she'd gone; they've left.",
    "unbelievable antidisestablishmentarianism, state-of-the-art e-mail",
)
SHORT: Final = ("hello", "a", "I", "42", "3.14159 and 1,000,000.00", "2024-02-29T12:34:56Z")
NEARLY_EMPTY: Final = ("", " ", "\n\t \r\n", ".", "...", "?!", "-", "'")
UPPER_CASE: Final = (
    "HELLO WORLD",
    "NASA AND ESA LAUNCH A JOINT MISSION",
    "iPhone McDonald's eBay USA",
    "ÄÖÜ ÉÈ ÇA ÑANDÚ",
)
CODE: Final = (
    "user@example.com https://example.org/a/b?c=d&e=f#g",
    "def f(x):\n    return x ** 2  # square",
    '{"key": [1, 2, null], "b": true}',
    "SELECT * FROM t WHERE a >= 3 AND b != 'x';",
    "a_b_c snake_case __init__",
    "a/b\\c|d~e^f`g",
    "$5 + €7 = £9 ¥3 ₿1",
)
SPACES: Final = ("   leading and   inner  spaces   ", "tab\tseparated\tvalues\nnew line")
LANGUAGES: Final = (
    "café naïve résumé façade",
    "cafe\u0301 nai\u0308ve",
    "Straße Größe Fußball",
    "İstanbul ığdır",
    "Łódź Đorđe ønsker Ærø",
    "Привет, мир! Ёлка й",
    "Γειά σου Κόσμε Ά",
    "שלום עולם",
    "שָׁלוֹם",
    "مرحبا بالعالم",
    "مَرْحَبًا",
    "สวัสดีชาวโลก",
    "你好，世界！",
    "機械学習は楽しい。",
    "カタカナ ガギグ ﾊﾝｶｸ",
    "Tiếng Việt có dấu",
)
CHARACTERS: Final = (
    "office \ufb03",
    "Ｆｕｌｌｗｉｄｔｈ ＴＥＸＴ",
    "x² + y³ = ½ ①",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝒮𝒸𝓇𝒾𝓅𝓉",
    "😀 emoji 👩\u200d👩\u200d👧 🇩🇪 ❤\ufe0f",
    "𠜎𠜱 rare",
    "zero\u200bwidth\u200djoiner\ufeffmark",
    "soft\u00adhyphen non\u00a0breaking",
    "control\x01\x02chars\x7f",
    "replacement \ufffd character",
    "nul \x00 inside",
    "line\u2028separator paragraph\u2029separator",
    "dash \u2013 em \u2014 minus \u2212 \u2010 hyphen",
    "“curly” \u2018quotes\u2019 «guillemets»",
    "ellipsis… bullet • arrow → ™ ©",
)
MARKS: Final = ("[MASK] is the [SEP] of [CLS] and [UNK] [PAD]", "[cls] lower", "##ing suffix ##")
LONG: Final = (
    "x" * 100,
    words(100),
    words(180, 3),
    words(254, 5),
    words(255, 1),
    words(300),
    words(400, 2),
    words(510, 4),
    " ".join(["word"] * 200),
    "Sentence one. Sentence two! " * 30,
    "日本語" * 60,
)
# More tokens than the model reads.
TOO_LONG: Final = (words(511), words(700, 6), "Sentence one. Sentence two! " * 90)

# llama.cpp's tokenizer cuts these in another way than the model's own: it takes Devanagari's vowel
# signs for accents, does not take Hangul apart, and knows no longest word.
CUT_OTHERWISE: Final = ("नमस्ते दुनिया", "안녕하세요 세계", "x" * 101, "ab" * 120)

TEXTS: Final = (
    *SENTENCES,
    *SHORT,
    *NEARLY_EMPTY,
    *UPPER_CASE,
    *CODE,
    *SPACES,
    *LANGUAGES,
    *CHARACTERS,
    *MARKS,
    *LONG,
)
