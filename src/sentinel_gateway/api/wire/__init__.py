"""The dialects that callers speak, as pure functions between bytes and `core`."""
