"""Which language a text is in, as far as a veto needs it: the small words of each tell."""

from collections import Counter
from typing import Final

from sentinel_gateway.core.guards.lexicon import words
from sentinel_gateway.core.guards.words import Pair

FOREIGN_SHARE: Final = 0.2
LAST_LATIN: Final = "ɏ"
"""Latin, Latin-1, Latin Extended A and B end here."""
LATIN_ADDITIONAL: Final = ("Ḁ", "\u1eff")
ENGLISH: Final = "en"
SMALL_WORDS: Final = {
    ENGLISH: words(
        "the is are was what how who where when why which of and to for my your can do does with this that it i you",
        "not if",
    ),
    "fr": words(
        "le la les des du une est et quelle quel quels quelles qui comment pourquoi où dans pour avec sur mon ma mes",
        "je vous ce",
    ),
    "de": words(
        "der die das und ist was wie wer wo wann warum ein eine nicht ich mein meine welche welcher von mit für auf",
        "den dem wird noch sind zu im ich hat mir kann meine",
    ),
    "es": words("el los las es qué cuál cómo quién dónde cuándo por para una del con mi mis está cual como que puedo y en se"),
    "it": words(
        "il lo gli è qual quale come chi dove quando perché di della del dei per con una mio mia che sono posso cosa",
        "questo",
    ),
    "pt": words("o os as é qual como quem onde quando porque por do da dos das uma meu minha para com não que em posso são"),
    "nl": words("het een is wat hoe wie waar wanneer waarom welke van de en mijn ik niet voor met op dat kan zijn"),
    "pl": words("jest co jak kto gdzie kiedy dlaczego nie i w na do się jaka jaki mój moje z czy"),
    "sv": words("är och vad hur vem var när varför inte jag min mitt en ett på för med som det kan"),
    "da": words("er og hvad hvordan hvem hvor hvornår hvorfor ikke jeg min mit en et på for med som det kan"),
    "tr": words("ne nedir nas\u0131l kim nerede neden bir ve için bu mi değil benim"),
    "id": words("apa bagaimana siapa mana kapan mengapa yang dan di untuk saya adalah ini itu dari dengan tidak"),
    "ro": words("este ce cum cine unde când de și în pentru cu nu care mea meu sunt"),
}  # fmt: skip
LEAST: Final = 2
"""Small words of a language that make a text its own, if English has fewer."""


def is_foreign(text: str) -> bool:
    """More than a fifth of the letters are not Latin: the embedder doesn't understand such a text."""
    if text.isascii():
        return False
    letters = [letter for letter in text if letter.isalpha()]
    return sum(map(_not_latin, letters)) > FOREIGN_SHARE * len(letters)


def _not_latin(letter: str) -> bool:
    return letter > LAST_LATIN and not LATIN_ADDITIONAL[0] <= letter <= LATIN_ADDITIONAL[1]


LANGUAGES: Final = {
    word: tuple(name for name, small in SMALL_WORDS.items() if word in small)
    for word in frozenset[str]().union(*(small for name, small in SMALL_WORDS.items() if name != ENGLISH))
}


def differs(pair: Pair) -> bool:
    """Are the texts in two languages? Not if they hold the same words."""
    return bool(pair.only_a or pair.only_b) and guess(pair.a.plain) != guess(pair.b.plain)


def guess(plain: tuple[str, ...]) -> str:
    """The language whose small words are most of `plain`; English unless another has more."""
    counts = Counter(name for word in plain if word in LANGUAGES for name in LANGUAGES[word])
    best = max(counts, key=counts.__getitem__, default=ENGLISH)
    if counts[best] < LEAST:
        return ENGLISH
    return best if counts[best] > sum(word in SMALL_WORDS[ENGLISH] for word in plain) else ENGLISH
