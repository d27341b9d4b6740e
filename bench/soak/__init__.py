"""L7: a gateway under a mixture of everything for half an hour or more, and what it has kept of it: `python -m bench.soak`."""
