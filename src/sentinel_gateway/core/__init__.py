"""Rules: plain functions over frozen values.

No await, no clock, no chance, no framework: `now` (seconds, see `ports.Clock`) and `jitter` (0..1) are arguments.
"""
