"""`/config/sources` and `/admin/config/check`: where each setting comes from, and what a reload, or a draft, would change."""

from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field

from sentinel_gateway.api.bodies import StrictBody, read_body, takes
from sentinel_gateway.api.guard import Guard
from sentinel_gateway.api.operations import READ
from sentinel_gateway.ports.configuration import Checked, ConfigurationDesk, Source

LONGEST: Final = 50_000
"""Characters of a draft."""


class SettingBody(BaseModel):
    """A setting in force. Secrets are masked; `place` is where it was written, `sentinel.yaml:7` or `env PORT`.

    `by_restart`: a change takes effect at the next start. `waits`: this value does, and until then that of the start holds.
    """

    name: str
    about: str
    value: Any
    default: Any
    source: Source
    place: str
    by_restart: bool
    waits: bool


class SourcesBody(BaseModel):
    """The files that were read, and every setting."""

    files: list[str]
    settings: list[SettingBody]


class CheckBody(StrictBody):
    """`yaml` is read in place of the file; without it the file is, as it is now. Nothing is changed, and nothing is kept."""

    yaml: Annotated[str, Field(max_length=LONGEST)] | None = None


class FaultBody(BaseModel):
    place: str
    fault: str


class ChangeBody(BaseModel):
    """A setting that would be another. `by_restart`: at the next start, and not by a reload."""

    name: str
    before: Any
    after: Any
    place: str
    by_restart: bool


class CheckedBody(BaseModel):
    """`ok`: a reload would take it. `mark` is for `POST /admin/reload`, which then puts in force this and nothing else."""

    ok: bool
    of: Literal["files", "draft"]
    faults: list[FaultBody]
    changes: list[ChangeBody]
    notes: list[str]
    mark: str | None


class ConfigurationAdmin:
    """The endpoints."""

    def __init__(self, desk: ConfigurationDesk, *, guard: Guard) -> None:
        self._desk = desk
        self._guard = guard

    def __repr__(self) -> str:
        return f"<ConfigurationAdmin {self._desk!r}>"

    def routes(self) -> APIRouter:
        """The router of both. What is in force is for readers, as `/config` is; trying another takes the admin key."""
        router = APIRouter(tags=["operations"])
        readers, operator = [Depends(self._guard.needs("read"))], [Depends(self._guard.operator())]
        router.add_api_route("/config/sources", self.sources, methods=READ, dependencies=readers)
        router.add_api_route(
            "/admin/config/check", self.check, methods=["POST"], dependencies=operator, openapi_extra=takes(CheckBody)
        )
        return router

    async def sources(self) -> SourcesBody:
        """Every setting in force, and where it comes from: a default, a variable, a line of a file, a flag."""
        settings = [SettingBody.model_construct(**msgspec.structs.asdict(one)) for one in self._desk.settings()]
        return SourcesBody(files=list(self._desk.files), settings=settings)

    async def check(self, request: Request) -> CheckedBody:
        """What a reload would change now, or what is wrong; with `yaml` what it would were that the text of the file."""
        asked = await read_body(request, CheckBody)
        return told(await self._desk.check(asked.yaml), of="files" if asked.yaml is None else "draft")


def told(checked: Checked, *, of: Literal["files", "draft"]) -> CheckedBody:
    """As the API tells it."""
    return CheckedBody(
        ok=not checked.faults,
        of=of,
        faults=[FaultBody(place=place, fault=fault) for place, fault in checked.faults],
        changes=[ChangeBody.model_construct(**msgspec.structs.asdict(one)) for one in checked.changes],
        notes=list(checked.notes),
        mark=checked.mark or None,
    )
