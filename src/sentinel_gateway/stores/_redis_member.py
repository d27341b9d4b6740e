"""Who speaks in Redis: one node of one gateway. Others may use the same Redis and know nothing of each other."""

import msgspec

from sentinel_gateway.stores._redis_values import Values


class Member(msgspec.Struct, frozen=True):
    """`owner` is the same for all nodes that share a secret, and part of every key's name; `node` is this one's alone."""

    owner: str
    node: str


def member(secret: bytes, node: str) -> Member:
    """The node of this name, of the gateway that has this secret."""
    return Member(Values(secret).owner, node)
