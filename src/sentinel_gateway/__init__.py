"""Sentinel: a semantic AI gateway. One OpenAI-compatible endpoint in front of any LLM provider.

Importing this package does nothing; `app.py` wires it, `cli/` starts it. Begin reading at `docs/tour.md`.
"""

__version__ = "0.1.0"
