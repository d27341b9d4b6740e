"""What can be routed to under one configuration, kept in step with what the providers list, and the planners that ask it."""

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Final

from sentinel_gateway import rules
from sentinel_gateway.api.dialects import make_planners
from sentinel_gateway.api.wire.query import Defaults
from sentinel_gateway.core.routing import Directory, is_listed
from sentinel_gateway.ports import Events, Prices, Programs, Provider
from sentinel_gateway.providers.catalogue import Catalogue
from sentinel_gateway.providers.demo import MODELS as DEMO_MODELS
from sentinel_gateway.providers.demo import NAME as DEMO
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.settings.presets import PRESETS
from sentinel_gateway.settings.routes import default_models, default_route

REFRESH: Final = 600.0
"""Seconds between two looks at what the providers list."""


class Routes:
    """`planners` by their dialects. What they remember is forgotten whenever something else can be routed to."""

    def __init__(
        self, settings: Settings, providers: Mapping[str, Provider], programs: Programs, *, prices: Prices, events: Events
    ) -> None:
        self._settings = settings
        self._names: Collection[str] = tuple(providers)
        self._routes = rules.routes(settings, prices)
        listed = {name: frozenset(provider.models) for name, provider in settings.providers.items() if provider.models}
        real = [provider for name, provider in providers.items() if name != DEMO]
        self._catalogue = Catalogue(real, listed=listed, events=events)
        self._directory = self._list()
        defaults = Defaults(default_route(settings), default_models(settings))
        self.planners = make_planners(self.current, programs, max_depth=settings.server.max_depth, defaults=defaults)
        self._refreshing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Routes to {', '.join(self._names)}>"

    def current(self) -> Directory:
        """What can be routed to now."""
        return self._directory

    def lists(self, name: str) -> bool:
        """Is it the name of an alias, or of a model that a provider lists now?"""
        return is_listed(name, self._directory)

    async def start(self) -> None:
        """Learn the catalogue, and keep it fresh."""
        if await self._catalogue.load():
            self._relist()
        self._refreshing = asyncio.create_task(self._keep_fresh())

    async def stop(self) -> None:
        """Stop refreshing. Requests under way go on."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            with suppress(asyncio.CancelledError):
                await self._refreshing

    async def _keep_fresh(self) -> None:
        while True:
            if await self._catalogue.refresh():
                self._relist()
            await asyncio.sleep(REFRESH)

    def _relist(self) -> None:
        self._directory = self._list()
        for planner in self.planners.values():
            planner.forget()

    def _list(self) -> Directory:
        return Directory(
            aliases=self._routes,
            providers=tuple(self._names),
            catalogues={name: DEMO_MODELS if name == DEMO else self._catalogue.names(name) for name in self._names},
            known={name: preset.switch for name, preset in PRESETS.items() if name not in self._names},
            simulated=frozenset({DEMO}),
        )
