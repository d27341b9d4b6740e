"""What the path needs from the world, written for the caller; `tests/contract` holds the adapters to it."""

from sentinel_gateway.ports.cache import Embedder, NearStore, ReplyStore, ScopeView, TokenCounter, VectorArchive, VectorIndex
from sentinel_gateway.ports.evidence import EvidenceStore, LearnerStore, LessonStore, News, Told
from sentinel_gateway.ports.keys import AuditLog, AuditPage, KeyChanges, KeyPage, KeyStore, Mark
from sentinel_gateway.ports.ledger import Ledger
from sentinel_gateway.ports.nodes import CLAIM_SECONDS, Bulletin, Handover, IdempotencyStore, Landed, LimitStore
from sentinel_gateway.ports.programs import Ask, Prediction, Program, Programs
from sentinel_gateway.ports.recent import RecentMetrics
from sentinel_gateway.ports.upstream import (
    ChunkStream,
    Completion,
    Embedded,
    EmbeddingProvider,
    NotCarried,
    Provider,
    Unsent,
    UpstreamCall,
    refuse_unsaid,
)
from sentinel_gateway.ports.world import Clock, ConnectionWatch, Events, Prices, World

__all__ = [
    "CLAIM_SECONDS",
    "Ask",
    "AuditLog",
    "AuditPage",
    "Bulletin",
    "ChunkStream",
    "Clock",
    "Completion",
    "ConnectionWatch",
    "Embedded",
    "Embedder",
    "EmbeddingProvider",
    "Events",
    "EvidenceStore",
    "Handover",
    "IdempotencyStore",
    "KeyChanges",
    "KeyPage",
    "KeyStore",
    "Landed",
    "LearnerStore",
    "Ledger",
    "LessonStore",
    "LimitStore",
    "Mark",
    "NearStore",
    "News",
    "NotCarried",
    "Prediction",
    "Prices",
    "Program",
    "Programs",
    "Provider",
    "RecentMetrics",
    "ReplyStore",
    "ScopeView",
    "TokenCounter",
    "Told",
    "Unsent",
    "UpstreamCall",
    "VectorArchive",
    "VectorIndex",
    "World",
    "refuse_unsaid",
]
