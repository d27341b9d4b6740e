"""What binds a text to a time: the words, and whether two texts are bound to different times."""

from typing import Final

from sentinel_gateway.core.guards.lexicon import known, table, words
from sentinel_gateway.core.guards.words import Pair

TODAY: Final = words("today tonight todays")
NEWEST: Final = words("latest newest")
NOW: Final = TODAY | NEWEST | words("now current currently nowadays ongoing")
TIMES: Final = table("""
yesterday
tomorrow
ago
last
next
previous previously
future
upcoming
midnight
noon
annual annually yearly
monthly
weekly
daily
hourly
quarterly
""")


def differ(pair: Pair) -> bool:
    """Is one bound to another time, or either to the moment at which it is asked?"""
    if not NOW.isdisjoint(pair.a.plain) or not NOW.isdisjoint(pair.b.plain):
        return True
    return known(TIMES, pair.a.plain) != known(TIMES, pair.b.plain)
