"""Alerts as they run: who looks (`watch.py`), who delivers (`courier.py`), and the channels. The rules are `core/alerting`'s."""
