"""The room `cache`: what is kept, where and for how long, and when a reworded question is answered from it."""

from typing import Annotated

from pydantic import AfterValidator, ByteSize, Field, model_validator

from sentinel_gateway.settings.room import GIB, MIB, Count, Lifetime, Room, Seconds, Share, Size, Treatment
from sentinel_gateway.settings.values import check_namespace


class MemoryTier(Room):
    entries: Count = Field(default=10_000, description="Most answers kept in memory.")
    bytes: Size = Field(default=ByteSize(256 * MIB), description="Most memory that they may take, such as 256MiB.")
    ttl: Seconds = Field(default=300.0, description="Seconds an answer stays in memory at most.")


class DiskTier(Room):
    enabled: bool = Field(default=True, description="Keep answers on disk, where they survive a restart.")
    bytes: Size = Field(default=ByteSize(GIB), description="Most disk space that they may take, such as 1GiB.")


class Semantic(Room):
    enabled: bool = Field(default=True, description="Answer reworded questions from the cache as well.")
    threshold: float = Field(
        default=0.95, ge=0, le=1, description="Least similarity (cosine) with which a stored answer serves; guards stay on."
    )
    min_threshold: float = Field(
        default=0.7, ge=0, le=1, description="Least similarity that a request may ask for with x-similarity-threshold."
    )
    entries: Count = Field(default=100_000, description="Most questions kept for comparison.")
    exploration: Share = Field(
        default=0.02, description="Share of hits that a provider answers instead, to see whether the stored answer was right."
    )
    audit: Share = Field(
        default=0.0,
        description="Share of the other hits that are served, and compared with a provider's answer beside the request.",
    )
    shadow: bool = Field(default=False, description="Decide and compare, but serve nothing: all hits are explored.")
    judge: str | None = Field(
        default=None,
        min_length=1,
        description="Model that compares answers where rules can't tell: provider/model, or a name under models. Unset: none.",
    )
    evidence_budget: Share = Field(
        default=0.01, description="Share of the day's cost that exploration, audits and the judge may have together."
    )

    @model_validator(mode="after")
    def _check(self) -> "Semantic":
        if self.threshold < self.min_threshold:
            raise ValueError("threshold is below min_threshold: raise the one or lower the other")
        return self


class Bound(Room):
    time: Treatment = Field(
        default="brief",
        description="Questions bound to the moment ('today', the weather, a price): usual, exact (never in other words), "
        "brief (so, and only for cache.bound.ttl) or never (not kept).",
    )
    personal: Treatment = Field(default="brief", description="Questions about the caller's own ('my order'): the same.")
    ttl: Lifetime = Field(default=300.0, description="Seconds to keep answers to 'brief' ones, unless x-cache-ttl says more.")


class Namespace(Room):
    max_wrong_hit_rate: Share | None = Field(default=None, description="As cache.max_wrong_hit_rate, if it is stricter.")


class Cache(Room):
    memory: MemoryTier = Field(default=MemoryTier(), description="The near tier.")
    disk: DiskTier = Field(default=DiskTier(), description="The tier that survives restarts.")
    ttl: Lifetime | None = Field(
        default=None, description="Seconds to keep answers; unset: a day, an hour above temperature 0.7."
    )
    stale_if_error: Lifetime = Field(
        default=0.0, description="Seconds after its end in which an answer still serves if every target fails; 0: in none."
    )
    max_answer_bytes: Size = Field(default=ByteSize(MIB), description="Largest answer that is kept.")
    max_wrong_hit_rate: Share = Field(
        default=0.01,
        description="Most wrong answers to reworded questions, as a share of the requests compared; above it fewer serve.",
    )
    namespaces: dict[Annotated[str, AfterValidator(check_namespace)], Namespace] = Field(
        default={}, description="Namespaces (x-cache-namespace) by name, of whichever tenant."
    )
    bound: Bound = Field(default=Bound(), description="Questions whose answer is not everybody's, or not for long.")
    semantic: Semantic = Field(default=Semantic(), description="Hits in other words.")
