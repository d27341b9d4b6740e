"""`POST /v1/feedback`: whoever was given the stored answer to another question says whether it was right."""

from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from sentinel_gateway.api.bodies import StrictBody, read_body, takes
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.errors import AnswerNotFound, EvidenceUnavailable, StoreDown
from sentinel_gateway.pipeline.evidence import Evidence
from sentinel_gateway.pipeline.limiting import Limiter

if TYPE_CHECKING:
    from sentinel_gateway.core.access import Caller

OFF: Final = "The semantic tier is off, so no stored answer was given to another question: there is nothing to judge."
UNKNOWN: Final = (
    "No stored answer was given to another question under this id: send the x-sentinel-id or the x-request-id of an answer with "
    "'x-cache: semantic' that you were given here in the last 30 days."
)
FAILED: Final = "What is known of answers can't be changed now, so a wrong one may still be there: send the same again."


class FeedbackBody(StrictBody):
    """`request_id` is either id of the answer's request."""

    request_id: Annotated[str, Field(min_length=1, max_length=128)]
    correct: bool


class Feedback:
    """The endpoint. `evidence` is None where the semantic tier is off. It counts as a request of its caller."""

    def __init__(self, evidence: Evidence | None, limiter: Limiter, *, guard: Guard) -> None:
        self._evidence = evidence
        self._limiter = limiter
        self._guard = guard

    def routes(self) -> APIRouter:
        """The router of this endpoint."""
        router = APIRouter(tags=["feedback"])
        access = [Depends(self._guard.needs("inference"))]
        router.add_api_route("/v1/feedback", self.give, methods=["POST"], dependencies=access, openapi_extra=takes(FeedbackBody))
        return router

    async def give(self, request: Request) -> dict[str, Any]:
        """Take what the caller says. To say it again changes nothing."""
        caller: Caller = request.state.caller
        grant = self._limiter.grant(caller.party)
        if grant is not None:
            grant.check()
            await grant.enter(model="", place=False)
        said = await read_body(request, FeedbackBody)
        if self._evidence is None:
            raise AnswerNotFound(OFF, param="request_id")
        try:
            decision = await self._evidence.hear(said.request_id, tenant=caller.space, correct=said.correct)
        except StoreDown as exc:
            raise EvidenceUnavailable(FAILED, retry_after=1.0) from exc
        if decision is None:
            raise AnswerNotFound(UNKNOWN, param="request_id")
        return {
            "request_id": decision.request_id,
            "sentinel_id": decision.id,
            "correct": said.correct,
            "evicted": not said.correct,
        }
