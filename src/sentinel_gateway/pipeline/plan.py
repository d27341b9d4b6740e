"""Decode, resolve, identify: from raw bytes to what is to be done. Bytes that have hit are not understood again.

The memo is the first of the two key levels: a body that has hit before, byte for byte, under the same policy needs no parse,
no routing and no hash. It compares all bytes, so nothing can collide in it.
"""

from collections.abc import Callable
from typing import Final

import cachebox
import msgspec
from msgspec.structs import replace

from sentinel_gateway.core.chat import ChatRequest, Native
from sentinel_gateway.core.extensions import has_hints
from sentinel_gateway.core.identity import Question, Unfit, exact_key, question
from sentinel_gateway.core.routing import Directory, NoRoute, Route, explain, resolve
from sentinel_gateway.errors import ModelNotFound

MEMO_BYTES: Final = 16 * 1024 * 1024
MEMO_BODY_BYTES: Final = 32 * 1024
HIT_ONCE: Final = 4096
"""Bodies, by their hashes, that are waited for to come again."""
ROUTES: Final = 1024
"""Names asked for lately, which are not resolved again. Whoever decodes sees that none is long."""
PARSED_WEIGHT: Final = 4
"""A parsed body takes about so many times the memory of its bytes."""
PLAN_OVERHEAD: Final = 1024
"""Bytes that a memo entry takes whatever its body is."""

Decode = Callable[[bytes], ChatRequest]


class Plan(msgspec.Struct, frozen=True):
    """A request understood: where it goes, and the key under which its answer is kept, empty where none is to be."""

    request: ChatRequest
    route: Route
    key: str
    generation: int = 0
    """Of the directory that it was resolved in."""
    part: str = ""
    """Of the cache, if its answers are kept apart from all others of its namespace (`core.experiments`)."""


def _weight(policy: tuple[str, str, bytes], _: Plan) -> int:
    return len(policy[2]) * (1 + PARSED_WEIGHT) + PLAN_OVERHEAD


class Planner:
    """Makes plans for one face ("chat"), whose `decode` raises `BadRequest`s; `keyed` if answers to them are to be kept."""

    def __init__(self, face: str, decode: Decode, directory: Callable[[], Directory], *, keyed: bool = True) -> None:
        self._face = face
        self._decode = decode
        self._directory = directory
        self._keyed = keyed
        self._generation = 0
        self._routes: cachebox.LRUCache[str, Route] = cachebox.LRUCache(ROUTES)
        self._hit_once: cachebox.LRUCache[int, None] = cachebox.LRUCache(HIT_ONCE)
        self._memo: cachebox.LRUCache[tuple[str, str, bytes], Plan] = cachebox.LRUCache(MEMO_BYTES, getsizeof=_weight)

    def __repr__(self) -> str:
        return f"<Planner {self._face} {len(self._memo)} plans, {self._memo.current_size()} bytes>"

    def plan(self, raw: bytes, *, tenant: str, namespace: str) -> Plan:
        """The plan for a body; `ModelNotFound` if nobody serves its model."""
        policy = (tenant, namespace, raw)
        known: Plan | None = self._memo.get(policy)
        if known is not None:
            return known
        request = self._decode(raw)
        route = self._route(request.model)
        return Plan(request, route, self._key(request, route, tenant=tenant, namespace=namespace), self._generation)

    def _route(self, model: str) -> Route:
        known: Route | None = self._routes.get(model)
        if known is not None:
            return known
        route = resolve(model, self._directory())
        if isinstance(route, NoRoute):
            raise ModelNotFound(explain(route), name=model)
        self._routes[model] = route
        return route

    def apart(self, plan: Plan, model: str | None, part: str, *, tenant: str, namespace: str) -> Plan:
        """The same in a part of the cache of its own, and of another model's targets, if one is named. It is not remembered."""
        route = plan.route if model is None else self._route(model)
        key = self._key(plan.request, route, tenant=tenant, namespace=namespace + part)
        return replace(plan, route=route, key=key, part=part)

    def question(self, plan: Plan, *, tenant: str, namespace: str) -> Question | Unfit:
        """What the request of this plan asks, to be compared by meaning."""
        request, targets, within = plan.request, plan.route.names, namespace + plan.part
        return question(request.fields, face=self._face_of(request), targets=targets, tenant=tenant, namespace=within)

    def _face_of(self, request: ChatRequest) -> str:
        """Hints that came in Anthropic's dialect are kept from some providers, and the same in OpenAI's are not: two requests.

        What a chat leaves unsaid is told to some, and so is what a header switches on.
        """
        if request.dialect == "openai":
            return self._face
        native = request.native
        told = "" if native is None or not native.says_more else f" {native.digest} {native.betas}{native.version}"
        hinted = " with hints" if has_hints(request.fields) else ""
        return f"{self._face}{hinted}{told}"

    def switched(self, plan: Plan, betas: str, version: str, *, tenant: str, namespace: str) -> Plan:
        """The same, with what the caller says by headers, as far as that may change the answer."""
        native = plan.request.native or Native(plan.request.fields)
        version = version if native.dated else ""
        if not (betas or version):
            return plan
        request = replace(plan.request, native=replace(native, betas=betas, version=version))
        key = self._key(request, plan.route, tenant=tenant, namespace=namespace)
        return replace(plan, request=request, key=key)

    def _key(self, request: ChatRequest, route: Route, *, tenant: str, namespace: str) -> str:
        if not self._keyed:
            return ""
        return exact_key(request.fields, face=self._face_of(request), targets=route.names, tenant=tenant, namespace=namespace)

    def remember(self, raw: bytes, plan: Plan, *, tenant: str, namespace: str) -> None:
        """These bytes have hit. Those that hit again are worth the room; most spellings of a request come once."""
        native = plan.request.native
        by_headers = native is not None and (native.betas or native.version)
        if by_headers or plan.part or len(raw) > MEMO_BODY_BYTES or not self.is_current(plan.generation):
            return  # what a header said, or who asks, is no part of the bytes
        policy = (tenant, namespace, raw)
        spelling = hash(policy)
        if spelling in self._hit_once:
            self._memo.setdefault(policy, plan)
        else:
            self._hit_once[spelling] = None

    def is_current(self, generation: int) -> bool:
        """Would a plan of this generation be the same now?"""
        return generation == self._generation

    def forget(self) -> None:
        """The directory has changed: routes must be resolved anew."""
        self._generation += 1
        self._routes.clear()
        self._memo.clear()
