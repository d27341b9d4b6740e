"""Reworded questions: the error budget, close decisions side by side, thresholds tried on what was recorded; and experiments."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from fastapi import Request
from pydantic import ValidationError

from sentinel_gateway.api.dashboard import words
from sentinel_gateway.api.dashboard.forms import Form
from sentinel_gateway.api.dashboard.pages import HOME, Action, Context, Page, Screen
from sentinel_gateway.api.experiments import ExperimentAdmin
from sentinel_gateway.api.guard import OPERATOR
from sentinel_gateway.api.semantic_admin import LabelBody, SemanticAdmin
from sentinel_gateway.api.semantic_trials import SemanticTrials, TryBody
from sentinel_gateway.errors import HistoryUnavailable, RequestError
from sentinel_gateway.ports import Clock

if TYPE_CHECKING:
    from sentinel_gateway.api.dashboard.door import Visit

PATH: Final = f"{HOME}/semantic"
SHOWN: Final = 30
EXPERIMENTS: Final = 5
TRIED: Final = ("rate", "threshold")
KINDS: Final = {"served": "good", "explored": "", "refused": "warn"}
SAID: Final = {"judge": "the judge", "feedback": "its caller", "operator": "you"}


class SemanticPage(Screen):
    """The page. `standing`, `trials` and `experiments` are the API that it asks."""

    page = Page(
        name="semantic",
        title="Semantic",
        path=PATH,
        access=OPERATOR,
        reads=(
            "/admin/semantic",
            "/admin/semantic/decisions",
            "/admin/semantic/labels",
            "/admin/semantic/try",
            "/admin/experiments",
        ),
    )

    def __init__(self, standing: SemanticAdmin, trials: SemanticTrials, experiments: ExperimentAdmin, clock: Clock) -> None:
        self._standing = standing
        self._trials = trials
        self._experiments = experiments
        self._clock = clock

    def __repr__(self) -> str:
        return f"<SemanticPage {self._trials!r}>"

    def actions(self) -> Sequence[Action]:
        return [Action(path=f"{PATH}/label", access=OPERATOR, act=self.label)]

    async def show(self, request: Request) -> Context:
        """How it stands, the last close decisions, and what was tried, if the query says what to try."""
        visit: Visit = request.state.visit
        asked = {name: value for name, value in request.query_params.items() if value}
        context: dict[str, Any] = {
            "may_change": visit.session is not None,
            "asked": {name: asked.get(name, "") for name in TRIED},
            "why": "",
            "tried": None,
            "standing": None,
            "decisions": None,
            "experiments": await self._tried_out(),
        }
        try:
            context["standing"] = _standing(await self._standing.show())
            decisions = await self._trials.latest(limit=SHOWN)
            context["decisions"] = decisions | {"rows": [self._row(one) for one in decisions["data"]]}
            if asked.keys() & set(TRIED):
                context["tried"] = await self._tried(asked)
        except RequestError as error:
            context["why"] = error.message
        except (ValidationError, ValueError):
            context["why"] = "Try a share of wrong answers in per cent, a similarity from 0 to 1, or both."
        return context

    async def label(self, request: Request, form: Form) -> str:
        """Say whether an answer was right."""
        correct = form.get("correct") == "yes"
        told = await self._standing.rule(request.state.caller, LabelBody(sentinel_id=form.get("id", "") or "-", correct=correct))
        return (
            "Noted as right."
            if correct
            else "Noted as wrong, and nobody gets it again."
            if told["evicted"]
            else "Noted as wrong."
        )

    async def _tried_out(self) -> Sequence[Mapping[str, Any]]:
        """The experiments of the last 30 days; none where the ledger can't tell of them."""
        try:
            return [_experiment(one) for one in await self._experiments.latest(EXPERIMENTS)]
        except HistoryUnavailable:
            return ()

    async def _tried(self, asked: Mapping[str, str]) -> dict[str, Any]:
        rate = float(asked["rate"]) / 100 if "rate" in asked else None
        threshold = float(asked["threshold"]) if "threshold" in asked else None
        told = await self._trials.compare(TryBody(max_wrong_hit_rate=rate, threshold=threshold))
        return {
            "rate": words.share(told["max_wrong_hit_rate"], 1),
            "threshold": told["threshold"],
            "days": told["window_days"],
            "rows": [("Now", _figures(told["now"])), ("Then", _figures(told["then"]))],
            "known": told["now"]["requests"] > 0,
        }

    def _row(self, one: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **one,
            "ago": words.span(max(0.0, self._clock() - one["at"])),
            "kind": KINDS[one["outcome"]],
            "near": f"{one['similarity']:.3f}",
            "sure": words.NOTHING if one["confidence"] is None else f"{one['confidence']:.3f}",
            "bar": "out of reach" if one["threshold"] is None else f"{one['threshold']:.3f}",
            "said": [f"{'right' if correct else 'wrong'}, says {SAID[source]}" for source, correct in one["labels"].items()],
        }


def _standing(told: Mapping[str, Any]) -> dict[str, Any]:
    overall, budget = told["overall"], told["max_wrong_hit_rate"]
    wrong = overall["wrong"]
    known = wrong["observations"] > 0
    used = 0.0 if not known or not budget else min(1.0, wrong["rate"] / budget)
    return {
        "budget": words.share(budget, 1),
        "days": told["window_days"],
        "reached": words.count(overall["reached"]),
        "hits": words.count(overall["hits"]),
        "reported": words.count(overall["reported"]),
        "known": known,
        "wrong": words.share(wrong["rate"], 1),
        "interval": f"{words.share(wrong['low'], 1)} to {words.share(wrong['high'], 1)}",
        "observations": words.count(wrong["observations"]),
        "used": round(100 * used),
        "kind": "bad" if known and wrong["low"] > budget else "warn" if known and wrong["rate"] > budget else "good",
        "shadow": told["shadow"],
        "namespaces": [
            one | {"threshold": words.NOTHING if one["threshold"] is None else f"{one['threshold']:.3f}"}
            for one in told["namespaces"]
        ],
    }


def _experiment(told: Mapping[str, Any]) -> dict[str, Any]:
    arms = [
        {
            "name": one["arm"],
            "changes": ", ".join(f"{name} {value}" for name, value in told["changes"].get(one["arm"], {}).items()),
            "requests": words.count(one["requests"]),
            "hit_rate": _between(one["hit_rate"], lambda value: words.share(value, 1)),
            "error_rate": _between(one["error_rate"], lambda value: words.share(value, 1)),
            "p50": _between(one["latency_p50_ms"], words.millis),
            "p95": _between(one["latency_p95_ms"], words.millis),
            "cost": _between(one["cost_per_request"], words.usd),
            "saved": words.usd(one["saved"]),
            "wrong": _wrong(one["wrong_hits"]),
        }
        for one in told["arms"]
    ]
    return {"name": told["name"], "running": told["running"], "verdict": told["verdict"], "arms": arms}


def _between(figure: Mapping[str, float], shown: Callable[[float], str]) -> tuple[str, str]:
    return shown(figure["value"]), f"{shown(figure['low'])} to {shown(figure['high'])}"


def _wrong(estimate: Mapping[str, Any] | None) -> tuple[str, str]:
    if estimate is None or not estimate["observations"]:
        return words.NOTHING, ""
    return _between({**estimate, "value": estimate["rate"]}, lambda value: words.share(value, 1))


def _figures(part: Mapping[str, Any]) -> dict[str, str]:
    wrong, wrong_hits = part["wrong"], part["wrong_hits"]
    return {
        "requests": words.count(part["requests"]),
        "hits": words.count(part["hits"]),
        "share": words.share(part["hits"], part["requests"]),
        "wrong": words.share(wrong["rate"], 1) if wrong["observations"] else words.NOTHING,
        "interval": f"{words.share(wrong['low'], 1)} to {words.share(wrong['high'], 1)}",
        "wrong_hits": words.share(wrong_hits["rate"], 1) if wrong_hits["observations"] else words.NOTHING,
        "labels": words.count(wrong["observations"]),
    }
