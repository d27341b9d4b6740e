"""Calls of providers of the last two hours, for people who look at them now: seed 004.

`recorder.py` hears of each call and writes many at once, beside all requests; `mirror.py` does the same for circuits. They write
to `memory.py` where there is no Redis, else to `redis.py`, whose keys and TTLs are seed 004's.
"""
