"""Settings: a YAML file, the environment and flags become small frozen values, and every fault is reported at once.

Only `app` and `cli` import this room; everybody else is given the few values that concern them. Begin reading at `load.py`.
"""
