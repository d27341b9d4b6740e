"""What the semantic cache does with questions whose answers are known, and with a log of traffic: offline, without a server.

For `make eval`: `streams` reads public data, `corpus` embeds it once, `policies` are Sentinel's rule and those it is compared
with, `replay` runs one over a stream, `traps` asks about pairs. For `sentinel eval`: `rows` and `labelled` read a file, `trials`
runs the rules, `measured` holds what came of it. For `sentinel replay`: `traffic` reads a log, `rehearsal` sends it down the
gateway's own path, `account` and `advice` say what that comes to. `reports` words both, `document` and `chart` show them.
"""
