"""The ledger: rows go to a journal at once (`journal.py`), and from there to SQL (`copier.py`, `sql.py`)."""
