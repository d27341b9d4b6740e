"""The path of a request, top to bottom. Start reading at `handle.py`."""
