"""Alerts as rules: what holds now (`conditions.py`), what that makes of each alert (`board.py`), and what is said (`notices.py`).

Pure: figures (`figures.py`), rules and the moment are arguments. `rules.py` says what a rule is, and which there are by default.
"""
