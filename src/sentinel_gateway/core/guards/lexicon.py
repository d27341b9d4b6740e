"""What is known of single English words: which carry no meaning of their own, which are forms or synonyms of another.

All lists are our own. A word that is missing here costs a hit, never a wrong answer: it is compared as it stands.
"""

from typing import Final


def table(groups: str) -> dict[str, str]:
    """Each word of a line -> the first word of that line."""
    lines = (line.split() for line in groups.strip().splitlines())
    return {word: line[0] for line in lines for word in line}


def known(meanings: dict[str, str], plain: tuple[str, ...]) -> frozenset[str]:
    """The meanings of those words of a text that have one here."""
    if meanings.keys().isdisjoint(plain):
        return frozenset()
    return frozenset(meanings[word] for word in plain if word in meanings)


def ordered(text: str) -> list[str]:
    return text.split()


def words(*lists: str) -> frozenset[str]:
    return frozenset(word for each in lists for word in each.split())


ARTICLES: Final = words("a an the this that these those there here it its itself")
TAILS: Final = words("s t re ll ve m d")
"""What an apostrophe cuts off."""
AUXILIARIES: Final = words(
    "is are am was were be been being do does did doing done has have had having will would shall should can could may might",
    "must ought gonna wanna let lets got gets get getting used",
)
ASKING: Final = words("who whom whose what which when where why how whats")
PERSONS: Final = words(
    "i me my mine myself you your yours yourself u ur we us our ours ourselves they them their theirs themselves",
    "one someone somebody anyone anybody everyone everybody people",
)
COURTESY: Final = words(
    "please pls plz kindly hi hello hey thanks thank just so then well ok okay also too really actually basically simply very",
    "exactly precisely quite rather such even ever still yet indeed truly definitely certainly literally honestly fact oh um uh",
    "tell know knows explain describe say show give want like wondering wonder curious help question answer ask asking mean",
    "possible possibly able any some as whether else since while therefore thus hence etc",
    "thing things stuff kind way ways actual exact certain particular specific various different called named",
    "dear sir quick quickly briefly detail details detailed look looking try trying find finding found go going come",
    "something anything everything someday somehow anyway each many much lot lots bit think believe opinion opinions feel",
)
SOFT: Final = words(
    "find finding found show look looking want like know help answer question go going come think believe feel people mean",
    "way ways kind give ask asking try trying explain describe possible able hello hi hey thanks thank please",
)
"""Fillers that are still exchanged for another word, not dropped, where the other text has a word of its own."""
DEEDS: Final = words("answer ask believe come describe explain feel find give go help know look mean say show tell think try")
"""Fillers that say everything where they are what somebody is to do: "should I come", "should I go"."""
FILLERS: Final = ARTICLES | AUXILIARIES | ASKING | PERSONS | COURTESY
"""Words that say nothing alone. Guards that need one of them (modals, question words, my and your) read the plain words."""

LEADS: Final = words(
    "of in on at from to into onto by for with within about than through during between among across via over under above",
    "below before after since until till toward towards against and or vs versus per off out up down near inside outside",
    "but upon along behind beyond around ahead if 's",
)
"""Words that say which part the next word plays. They are kept with it."""

FREED: Final = words(
    "sugar gluten fat dairy lactose alcohol caffeine nut meat egg soy tax toll duty interest fee rent debt drug smoke"
)
"""What something may be free of."""

TITLES: Final = words("director president ceo mayor secretary chief head governor minister manager principal")
CRIMES: Final = words("murder theft robbery rape suicide burglary homicide assault fraud kidnapping escape")
COMPOUNDS: Final = words(
    "odd-number odd-integer dry-ice diet-soda diet-coke diet-pepsi root-beer ginger-beer ginger-ale peanut-butter cocoa-butter",
    "almond-milk coconut-milk soy-milk oat-milk baking-soda guinea-pig hot-dog prairie-dog",
    *(f"acting-{title}" for title in TITLES),
    *(f"attempted-{crime}" for crime in CRIMES),
)
"""Of these the first word does not tell one thing from others of its kind, but makes another thing of it."""

PHRASES: Final = {
    ("log", "in"): "login", ("sign", "in"): "login", ("log", "on"): "login", ("log", "into"): "login", ("sign", "into"): "login",
    ("logged", "in"): "login", ("signed", "in"): "login", ("logging", "in"): "login", ("signing", "in"): "login",
    ("log", "out"): "logout", ("sign", "out"): "logout", ("sign", "up"): "signup", ("set", "up"): "setup",
    ("turn", "on"): "enable", ("turn", "off"): "disable", ("switch", "on"): "enable", ("switch", "off"): "disable",
    ("turned", "on"): "enable", ("turned", "off"): "disable", ("turning", "on"): "enable", ("turning", "off"): "disable",
    ("united", "states"): "usa", ("united", "kingdom"): "uk", ("great", "britain"): "uk", ("per", "cent"): "percent",
    ("in", "order"): "", ("how", "come"): "why",
    ("no", "one"): "nobody", ("have", "to"): "must", ("has", "to"): "must", ("had", "to"): "must", ("need", "to"): "must",
    ("right", "now"): "now", ("these", "days"): "now", ("these", "day"): "now", ("get", "rid"): "remove", ("look", "up"): "find",
    ("can", "not"): "not", ("e.g", "the"): "", ("more", "than"): "above", ("less", "than"): "below", ("fewer", "than"): "below",
    ("greater", "than"): "above", ("at", "least"): "minimum", ("at", "most"): "maximum", ("as", "of"): "",
    ("best", "way"): "best", ("good", "way"): "best", ("best", "ways"): "best", ("easiest", "way"): "easiest",
    ("web", "site"): "website", ("e", "mail"): "email", ("wi", "fi"): "wifi", ("on", "line"): "online", ("data",
        "base"): "database",
    ("pick", "up"): "collect", ("pull", "up"): "show", ("find", "out"): "find", ("figure", "out"): "find", ("carry", "out"): "do",
    ("in", "front"): "before", ("yet", "to"): "not",
    ("give", "up"): "quit", ("make", "sure"): "ensure", ("work", "out"): "exercise", ("for", "free"): "free",
    ("free", "of"): "without", ("instead", "of"): "instead", ("rather", "than"): "instead", ("other", "than"): "except",
    ("ahead", "of"): "ahead", ("our", "planet"): "earth", ("the", "planet"): "earth", ("second", "hand"): "secondhand",
    ("south", "america"): "south-america", ("north", "america"): "north-america", ("latin", "america"): "latin-america",
    ("in", "law"): "in-law", ("vice", "versa"): "viceversa",
    ("roll", "over"): "rollover", ("rolling", "over"): "rollover", ("rolled", "over"): "rollover",
    ("apart", "from"): "except", ("aside", "from"): "except", ("anything", "but"): "except", ("everything", "but"): "except",
    ("all", "but"): "except", ("nothing", "but"): "only",
    ("due", "to"): "", ("thank", "you"): "", ("of", "course"): "", ("a", "lot"): "",
} | {(what, "free"): f"{what}-free" for what in FREED} | {
    (one, other + ending): f"{one}-{other}" for one, other in (two.split("-") for two in COMPOUNDS) for ending in ("", "s")
}  # fmt: skip
"""Two words that mean one; the empty string: nothing at all."""

SYNONYMS: Final = table("""
begin start starting began begun commence
end finish
best good better top great greatest excellent recommend recommended recommendation suggest suggested ideal
big large huge
small little tiny
quick fast rapid
old age
tall height
far distance
fastest quickest
worth worthwhile
economic economical
option choice alternative
maximum max maximal
minimum min minimal
smart intelligent clever
happy joyful glad cheerful
sad unhappy sorrowful
rich wealthy
begin start
fix repair mend solve resolve troubleshoot
choose select pick chose chosen
purchase buy bought buying purchasing
car automobile
movie film
phone telephone cellphone smartphone
photo photograph picture pic image
doctor physician
kid child children kids
job occupation
company firm agency
error bug fault mistake
issue problem trouble
method approach technique procedure strategy
help assist aid
obtain acquire obtained acquired receive
create make made build built making creating building makes
delete remove erase deleted removed eliminate
modify change alter edit changed changing
main primary principal
important importance crucial essential significant vital
difficult hard tough
easy simple
wrong incorrect
correct right proper
strange weird odd
famous renowned popular
beautiful pretty gorgeous
angry mad furious
scared afraid frightened
speak talk
learn study learnt
teach instruct
earn gain
reply respond
require need needed required
permit allow allowed permitted
happen occur
reason cause
outcome result consequence
benefit advantage
drawback disadvantage downside con
difference distinction differ differs
cost price
pay paid
cheap inexpensive
expensive costly
calculate compute
country nation
road street
city town
home house
trip journey travel
vacation holiday
lawyer attorney
teacher instructor
student pupil
shop store
gift present
sick ill
disease illness
medicine medication
exam test
university college
application app apps applications
information info
email mail e-mail
advertisement ad advert
mathematics math maths
television tv
refrigerator fridge
laboratory lab
organization organisation
favorite favourite
color colour
behavior behaviour
flavor flavour
neighbor neighbour
labor labour
honor honour
humor humour
center centre
theater theatre
meter metre
liter litre
program programme
license licence
defense defence
grey gray
catalog catalogue
dialog dialogue
check cheque
tire tyre
jewelry jewellery
traveling travelling
canceled cancelled
usa america american americans u.s u.s.a
uk britain british u.k
lose lost losing
go went gone goes
see saw seen
eat ate eaten
drink drank drunk
write wrote written
drive drove driven
fly flew flown
run ran
swim swam
sing sang sung
break broke broken
speak spoke spoken
steal stole stolen
forget forgot forgotten
win won
sell sold
send sent
spend spent
build built
keep kept
sleep slept
teach taught
catch caught
think thought
bring brought
fight fought
hold held
stand stood
understand understood
meet met
hear heard
grow grew grown
throw threw thrown
draw drew drawn
show showed shown display displayed
take took taken
fall fell
wear wore worn
choose chose chosen
become became
man men
woman women
tooth teeth
mouse mice
wife wives
life lives
die died dying death
use using uses utilize
tip tips trick suggestion advice hint
sign symptom
convert transform
connect link
bill invoice
fee charge
shut close closed
near nearby
amount sum
whole entire
improve enhance enhanced
increase raise raised boost rise rose risen
decrease reduce lower lowered
prefer favor favour
example instance sample
definition meaning define defined
instruction guide tutorial
password passcode
quote quotation
website site webpage sites
web internet online
location place position
enough sufficient
immediately instantly
often frequently
usually normally generally typically
perhaps maybe
treat treatment treated
join enroll enrol enlist enter
request apply
forex fx
alike similar
identical same
outspoken vocal
india indian indians
canada canadian canadians
australia australian australians
mexico mexican mexicans
brazil brazilian brazilians
egypt egyptian egyptians
pakistan pakistani pakistanis
nigeria nigerian nigerians
kenya kenyan kenyans
israel israeli israelis
iran iranian iranians
iraq iraqi iraqis
europe european europeans
africa african africans
pregnant pregnancy
baby infant
interesting fascinating cool amazing
recover retrieve
estimate approximate
""")
"""Word -> the word of the same meaning that stands for it."""

KEPT_FORMS: Final = words(
    "news windows glasses goods customs arms securities pants united during morning evening nothing something anything thing",
    "string king ring spring wing sing bring sling swing bing boeing beijing early family reply apply supply italy july only",
    "ally belly fly bully jelly rely series species always perhaps physics paris texas wales james charles thomas mars lens",
    "bed red shed need seed feed speed indeed embed exceed hundred sacred naked wicked reed reddit being bias atlas canvas",
    "nearly besides",
    "gas kansas christmas pancreas vegas dallas bahamas honduras chaos cosmos los laos barbados lagos las thomas douglas nicolas",
)
"""Words that only look inflected."""

NOT: Final = "~"
NEGATORS: Final = words(
    "not no never none nobody nothing nowhere neither nor cannot without unable fail fails failed failing hardly barely scarcely",
    "dislike dislikes disliked rarely seldom lack lacks lacking non isn aren don doesn",
)
NEGATED: Final = {
    word: word[2:]
    for word in words(
        "unavailable unsafe unhealthy unhappy unlucky unknown unlikely unlimited unfair unusual unnecessary",
        "unpaid unread unlocked",
        "unsubscribed unsupported unsecured unstable unrelated unpopular unofficial unauthorized unclear uncommon unemployed",
        "unregistered unreliable unverified unused untrue unwell unwanted unsuccessful unmarried uninsured uneven uncomfortable",
        "ineligible inactive invalid incomplete inaccurate incapable inconsistent inappropriate indirect informal",
        "insecure insufficient infinite inedible insane immortal immature immoral impatient imperfect",
        "impolite impossible improper",
    )
} | {word: word[2:] for word in words("illegal illegible illogical irregular irrelevant irresponsible irreversible")} | {
    word: word[3:] for word in words("dishonest disloyal disobedient disabled discontinued disconnected noncommercial nonprofit")
}  # fmt: skip
