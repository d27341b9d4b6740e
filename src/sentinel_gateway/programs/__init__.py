"""DSPy behind the port `Programs`. DSPy is an extra, and heavy: nothing here imports it before a program is asked for."""
