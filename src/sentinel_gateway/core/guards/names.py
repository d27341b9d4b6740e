"""Who and where: people, places, companies, products, and the pronouns that stand for people.

A word is a name if a capital letter that no sentence start explains says so in either text, or if the lists below hold it.
"""

from collections.abc import Iterator
from typing import Final

from sentinel_gateway.core.guards.lexicon import AUXILIARIES, LEADS, words
from sentinel_gateway.core.guards.words import Pair, canonical

COUNTRIES: Final = words(
    "afghanistan albania algeria andorra angola argentina armenia australia austria azerbaijan bahamas",
    "bahrain bangladesh barbados",
    "belarus belgium belize benin bhutan bolivia bosnia botswana brazil brunei bulgaria burundi cambodia",
    "cameroon canada chad chile",
    "china colombia congo croatia cuba cyprus czechia denmark djibouti dominica ecuador egypt eritrea",
    "estonia eswatini ethiopia fiji",
    "finland france gabon gambia georgia germany ghana greece grenada guatemala guinea guyana haiti",
    "honduras hungary iceland india",
    "indonesia iran iraq ireland israel italy jamaica japan jordan kazakhstan kenya kiribati korea kosovo kuwait kyrgyzstan laos",
    "latvia lebanon lesotho liberia libya liechtenstein lithuania luxembourg madagascar malawi malaysia maldives mali malta",
    "mauritania mauritius mexico moldova monaco mongolia montenegro morocco mozambique myanmar namibia",
    "nepal netherlands nicaragua",
    "niger nigeria norway oman pakistan palau palestine panama paraguay peru philippines poland portugal",
    "qatar romania russia rwanda",
    "samoa senegal serbia seychelles singapore slovakia slovenia somalia spain sudan suriname sweden switzerland syria taiwan",
    "tajikistan tanzania thailand togo tonga tunisia turkmenistan tuvalu uganda ukraine uruguay usa uk",
    "uzbekistan vanuatu vatican",
    "venezuela vietnam yemen zambia zimbabwe england scotland wales europe africa asia antarctica oceania tibet greenland",
)
CITIES: Final = words(
    "paris london berlin madrid rome vienna lisbon dublin amsterdam brussels prague warsaw budapest",
    "athens oslo stockholm copenhagen",
    "helsinki moscow kyiv kiev istanbul ankara cairo lagos nairobi johannesburg tokyo osaka kyoto seoul",
    "beijing shanghai shenzhen",
    "guangzhou taipei manila jakarta bangkok hanoi kuala delhi mumbai bangalore bengaluru chennai kolkata hyderabad pune karachi",
    "lahore dhaka dubai doha riyadh tehran baghdad jerusalem sydney melbourne brisbane perth auckland toronto montreal vancouver",
    "ottawa calgary chicago boston seattle denver houston dallas austin atlanta miami detroit philadelphia phoenix portland",
    "washington vegas munich hamburg frankfurt cologne zurich geneva milan naples venice florence turin",
    "barcelona valencia seville",
    "porto lyon marseille nice bordeaux toulouse manchester liverpool birmingham glasgow edinburgh leeds bristol cardiff belfast",
    "lima bogota santiago caracas havana texas california florida ohio nevada oregon hawaii alaska",
    "georgia virginia quebec ontario",
    "bavaria tuscany catalonia bali goa kerala punjab gujarat york jersey angeles francisco rio sao paulo",
)
PEOPLES: Final = words(
    "english french german spanish italian portuguese dutch polish russian ukrainian chinese japanese korean arabic hindi urdu",
    "bengali turkish greek swedish norwegian danish finnish hungarian czech romanian latin hebrew persian thai vietnamese",
    "indonesian malay tamil swahili mandarin cantonese irish scottish welsh indian mexican canadian australian brazilian",
    "egyptian israeli iranian iraqi pakistani nigerian kenyan european african asian muslim christian",
    "jewish hindu buddhist catholic",
)
COMPANIES: Final = words(
    "google apple microsoft amazon facebook meta netflix tesla twitter instagram whatsapp telegram",
    "tiktok youtube linkedin snapchat",
    "reddit quora uber lyft airbnb spotify paypal stripe visa mastercard zelle venmo samsung sony nokia",
    "huawei xiaomi intel amd nvidia",
    "ibm oracle sap cisco dell lenovo adobe salesforce openai anthropic gemini chatgpt claude siri alexa",
    "cortana bing toyota honda",
    "ford bmw audi mercedes volkswagen boeing airbus walmart costco ikea nike adidas pepsi coca",
    "starbucks mcdonalds disney pfizer",
    "moderna hdfc icici sbi fedex ups dhl github gitlab bitbucket slack zoom outlook gmail aws azure gcp docker kubernetes",
    "terraform ansible jenkins python java javascript typescript rust golang kotlin swift ruby php perl scala haskell c++ c#",
    "android ios linux windows macos ubuntu debian fedora iphone ipad macbook mysql postgresql postgres sqlite mongodb redis",
    "kafka rabbitmq react angular vue django flask fastapi spring pytorch tensorflow excel word powerpoint bitcoin ethereum",
)
PLACES: Final = frozenset(map(canonical, COUNTRIES | CITIES))
NAMES: Final = PLACES | frozenset(map(canonical, PEOPLES | COMPANIES))

HE: Final = words("he him his himself")
SHE: Final = words("she her hers herself")
GENDERED: Final = HE | SHE
OWNERS: Final = {"my": "i", "mine": "i", "our": "i", "ours": "i", "your": "you", "yours": "you", "ur": "you", "their": "they",
                 "theirs": "they", "his": "he", "her": "she", "hers": "she"}  # fmt: skip
SUBJECTS: Final = {"i": "i", "we": "i", "you": "you", "u": "you", "one": "you", "they": "they", "people": "they", "he": "he",
                   "she": "she"}  # fmt: skip
SPEAKERS: Final = {"i": "i", "me": "i", "we": "i", "us": "i", "you": "you", "u": "you"}

DOING: Final = {"i": "i", "we": "i", "he": "he", "they": "they"}
DONE_TO: Final = {"me": "i", "us": "i", "him": "he", "them": "they"}
SERVED: Final = words("tell show help give let explain teach recommend suggest remind advise write send make for to the allow of")
"""Before "me", these ask something of who is asked, or say who it is that does: "help me open it", "for me to open it"."""

PRONOUNS: Final = GENDERED | OWNERS.keys() | SUBJECTS.keys() | SPEAKERS.keys()


def differ(pair: Pair) -> bool:
    """Does either text name what the other doesn't?"""
    only = (*pair.only_a, *pair.only_b)
    return any(token in NAMES or token in pair.a.names or token in pair.b.names for token in only)


def pronouns_differ(pair: Pair) -> bool:
    """He against she, my against your, who of "I" and "you" comes first."""
    if PRONOUNS.isdisjoint(pair.a.plain) or PRONOUNS.isdisjoint(pair.b.plain):
        return False
    a, b = (tuple([word for word in reading.plain if word in PRONOUNS]) for reading in (pair.a, pair.b))
    if _genders_differ(_genders(a), _genders(b)) or _owners_differ(a, b) or _turned(a, b):
        return True
    return _parts_differ(pair.a.plain, pair.b.plain)


def _genders(plain: tuple[str, ...]) -> tuple[bool, ...]:
    """For each word that is he or she, in order: is it she?"""
    return tuple(word in SHE for word in plain if word in GENDERED)


def _genders_differ(a: tuple[bool, ...], b: tuple[bool, ...]) -> bool:
    return a != b if len(a) == len(b) else bool(a and b) and set(a) != set(b)


def _owners_differ(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Is "my" against "your"? Not if each is the subject of its own text: "How do I improve my", "How do you improve your"."""
    left, right = _owners(a), _owners(b)
    return bool(left and right) and left != right and not (_owns(a, left) and _owns(b, right))


def _owners(plain: tuple[str, ...]) -> frozenset[str]:
    return frozenset(OWNERS[word] for word in plain if word in OWNERS)


def _owns(plain: tuple[str, ...], owners: frozenset[str]) -> bool:
    return owners <= {SUBJECTS[word] for word in plain if word in SUBJECTS}


def _turned(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Do "I" and "you" come in another order?"""
    left, right = ([SPEAKERS[word] for word in plain if word in SPEAKERS] for plain in (a, b))
    return left != right and sorted(left) == sorted(right)


def _parts_differ(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Does somebody do in one text what is done to the same person in the other: "I evict", "evict me"?"""
    one, other = list(_parts(a)), list(_parts(b))
    if sorted(one) == sorted(other):
        return one != other
    persons = {person for person, _ in one} & {person for person, _ in other}
    return any(_part(person, one).isdisjoint(_part(person, other)) for person in persons)


def _part(person: str, parts: list[tuple[str, bool]]) -> set[bool]:
    return {does for who, does in parts if who == person}


def _parts(plain: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """Who is spoken of, in order, and whether each is the one who does."""
    for before, word, after in zip(("", *plain), plain, (*plain[1:], ""), strict=False):
        if word in DOING:
            yield DOING[word], True
        elif word in DONE_TO and before not in SERVED:
            yield DONE_TO[word], False
        elif word == "you" and (before in AUXILIARIES or not after or after in LEADS) and before not in SERVED:
            yield "you", before in AUXILIARIES
