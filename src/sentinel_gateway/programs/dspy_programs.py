"""DSPy's programs: loaded once, in a thread; each run in a thread of its own, and asking models by whom it runs for."""

import asyncio
import importlib
import importlib.util
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Final, Protocol

from sentinel_gateway.errors import AnswerUnfit, NotInstalled, ProgramFailed, place_of
from sentinel_gateway.ports import Ask, Prediction, Program
from sentinel_gateway.programs._build import Built, build
from sentinel_gateway.programs._model import NAME, Engine, model_class
from sentinel_gateway.programs._threads import Bridge, Over, in_thread
from sentinel_gateway.programs.definition import BUILT_IN, Definition

PACKAGE: Final = "dspy"
MISSING: Final = "Predictions need DSPy, which is not installed here: pip install 'sentinel-gateway[dspy]', and start again."
AT_ONCE: Final = 256
"""Programs that run at a time, each with a thread; more wait for their turn."""


class Note(Protocol):
    """Where the operator is told of what can't be loaded."""

    def __call__(self, event: str, **fields: str) -> None: ...


class DspyPrograms:
    """The built-in programs and those of the `definitions`. `package` is DSPy's, or what a test has in its place."""

    def __init__(self, definitions: Iterable[Definition], on_event: Note, *, package: str = PACKAGE) -> None:
        own = list(definitions)
        self._definitions = {one.name: one for one in (*BUILT_IN, *own)}
        self._note = on_event
        self._package = package
        self._early = bool(own)
        self._loading = asyncio.Lock()
        self._loaded: dict[str, Built] | None = None
        self._dspy: Any = None
        self._make_model: Any = None
        self._places = asyncio.Semaphore(AT_ONCE)
        self._starting: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<DspyPrograms {', '.join(self._definitions)}>"

    @property
    def names(self) -> Collection[str]:
        return self._definitions.keys()

    def start(self) -> None:
        """Load them now, beside everything else, if there are others than the built-in ones: what is wrong shows at once."""
        if self._early:
            self._starting = asyncio.create_task(self._start())

    async def _start(self) -> None:
        try:
            await self.load()
        except NotInstalled:
            self._note("programs_missing", lacks=self._package)

    async def stop(self) -> None:
        """Wait for nothing that is loaded still. Runs under way go on."""
        if self._starting is not None:
            self._starting.cancel()
            with suppress(asyncio.CancelledError):
                await self._starting

    async def load(self) -> None:
        if self._loaded is None:
            async with self._loading:
                if self._loaded is None:
                    await self._load()

    async def _load(self) -> None:
        if importlib.util.find_spec(self._package) is None:
            raise NotInstalled(MISSING)
        self._dspy, self._make_model, self._loaded = await in_thread(self._import, "sentinel-programs")

    def _import(self) -> tuple[Any, Any, dict[str, Built]]:
        """The package, its model, and the programs that can be built; of the others the operator is told."""
        dspy = importlib.import_module(self._package)
        dspy.disable_logging()  # it quotes what models say
        built: dict[str, Built] = {}
        for definition in self._definitions.values():
            try:
                built[definition.name] = build(dspy, definition)
            except Exception as exc:  # noqa: BLE001 - broad: one that can't be built must not keep the others from their work
                self._note("program_unusable", program=definition.name, error=type(exc).__name__, at=place_of(exc))
        return dspy, model_class(dspy), built

    def find(self, name: str) -> Program:
        found = self._loaded.get(name) if self._loaded is not None else None
        if found is None:
            raise ProgramFailed(f"The program '{name}' can't be loaded. The gateway's log says why, as program_unusable.")
        return found

    async def run(self, asked: Prediction, ask: Ask) -> Any:
        bridge = Bridge(ask)
        try:
            async with self._places:
                return await in_thread(partial(self._run, asked, bridge), f"sentinel-program-{asked.program.name}")
        finally:
            bridge.close()

    def _run(self, asked: Prediction, bridge: Bridge) -> Any:
        dspy, program = self._dspy, asked.program
        if not isinstance(program, Built):
            raise TypeError(f"{program!r} was not built here")
        try:
            model = self._make_model(NAME, engine=Engine(dspy, bridge), cache=False, num_retries=0, **asked.parameters)
            # Nothing of a run may stay: neither its history nor its trace, both of which hold what was said.
            with dspy.context(lm=model, disable_history=True, trace=[], track_usage=False):
                return program.shown(program.module(**program.typed(asked.inputs)))
        except Over:
            raise
        except dspy.AdapterParseError as exc:
            sentence = f"What the model answered does not fit the outputs of the program '{program.name}'."
            raise AnswerUnfit(f"{sentence} Ask again, or another model.") from exc
        except BaseException as exc:
            if bridge.failed is not None:
                raise bridge.failed from exc
            raise ProgramFailed(f"The program '{program.name}' failed. The gateway's log says where, as program_failed.") from exc
