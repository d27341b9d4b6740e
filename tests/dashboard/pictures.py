"""The pictures of docs/dashboard.md, taken anew: `python -m tests.dashboard.pictures [NAME ...]`. A day of traffic is made up."""

import asyncio
import math
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from bench.chaos import ChaosUpstream
from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ports.ledger import Handled, Intent, Settled, Spent
from tests.alerts.sinks import SECRET, HttpSink, http_sink
from tests.dashboard.looking import Look, looking
from tests.gateway import chat, running_gateway

DOCS = Path(__file__).parents[2] / "docs" / "images"
ROUTE = "/v1/chat/completions"
MODELS = {"groq": ("llama-3.3-70b-versatile", 620), "openai": ("gpt-4o", 2400), "local": ("qwen3", 180)}
PRICES = {"groq": 410_000, "openai": 6_200_000, "local": 90_000}
TENANTS = ("acme", "globex", "initech")
PAGES = {"overview": "", **{name: f"/{name}" for name in ("providers", "semantic", "money", "alerts", "playground", "config")}}
AWAY = "http://127.0.0.1:9/"


def a_day(now: float) -> list[Handled | Settled]:
    """Requests of the last 24 hours: more at noon than at night, two of three of them answered from the cache."""
    chance, rows = random.Random(7), []
    for number in range(9000):
        at = now - 86_400 * chance.random()
        if chance.random() > 0.55 + 0.45 * math.sin((at % 86_400) / 86_400 * 2 * math.pi - 2):
            continue
        provider = chance.choices(list(MODELS), (6, 3, 2))[0]
        model, usual = MODELS[provider]
        outcome = chance.choices(("exact", "semantic", "miss"), (42, 23, 35))[0]
        tenant, id_ = chance.choice(TENANTS), f"{number:032x}"
        hit, took = outcome != "miss", chance.lognormvariate(0, 0.35)
        tokens, cost = (chance.randrange(80, 900), chance.randrange(40, 500)), int(PRICES[provider] * took)
        ms = chance.uniform(0.2, 0.6) if outcome == "exact" else chance.uniform(2, 5) if hit else usual * took
        asked = Handled(
            id_,
            int(at * 1e6),
            tenant,
            f"key_{chance.randrange(6):016x}",
            ROUTE,
            200,
            outcome,
            "memory" if outcome == "exact" else "vector" if hit else "",
            f"{provider}/{model}",
            provider,
            model,
            attempts=0 if hit else 1,
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            saved=cost if hit else 0,
            duration=int(ms * 1000),
        )
        rows.append(asked)
        if not hit:
            call = Intent(id_, 1, int(at * 1e6), tenant, asked.key, ROUTE, asked.model, provider, model)
            ending = "timeout" if provider == "openai" and chance.random() < 0.02 else "answered"
            rows.append(
                Settled(call, ending, Spent(*tokens[:1], 0, 0, tokens[1], 0, cost, "2026-11-22"), duration=int(ms * 1000))
            )
    return rows


async def take(folder: Path, wanted: Collection[str]) -> None:
    (folder / "data").mkdir()
    database = make_database(folder / "data", None)
    database.copy(a_day(time.time()))
    database.close()
    async with ChaosUpstream() as upstream, async_playwright() as playwright:
        config = "providers:\n" + "".join(
            f"  {name}: {{dialect: openai, base_url: '{upstream.base_url}', api_key: none, models: [{model}]}}\n"
            for name, (model, _) in MODELS.items()
        )
        async with http_sink() as sink:
            browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"))
            await _photograph(folder, upstream, browser, config + _alerts(sink), wanted)
            await browser.close()


def _alerts(sink: HttpSink) -> str:
    hooks = ", ".join(f"{name}: {{webhook: '{url}', secret: '{SECRET}'}}" for name, url in (("ops", sink.url), ("on-call", AWAY)))
    return f"alerts: {{every: 1, group: 0, channels: {{{hooks}}}}}\ncache: {{ttl: 3600}}\n"


async def _play(look: Look) -> None:
    """A question, and the same in other words, to two models."""
    await look.page.click("#add-model")
    await look.page.check("#alone")
    for number, provider in enumerate(("groq", "openai"), 1):
        await look.page.fill(f"#model-{number}", f"{provider}/{MODELS[provider][0]}")
    for turn, text in enumerate(("How long does an egg have to boil?", "Please tell me: how long does an egg have to boil?"), 1):
        await look.page.fill("#prompt", text)
        await look.page.keyboard.press("Enter")
        await look.page.wait_for_function("n => document.querySelectorAll('.turn > .about').length >= n", arg=2 * turn)


async def _photograph(folder: Path, upstream: ChaosUpstream, browser: Browser, config: str, wanted: Collection[str]) -> None:
    environ = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "3"}
    async with running_gateway(folder, config=config, environ=environ, semantic=True) as gateway:
        for number in range(12):
            for text in (
                f"What is the capital of country {number}?",
                f"Please tell me: what is the capital of country {number}?",
            ):
                provider = list(MODELS)[number % 3]
                await gateway.ask(chat(text, model=f"{provider}/{MODELS[provider][0]}"))
                await gateway.ask(chat(text, model=f"{provider}/{MODELS[provider][0]}", stream=number % 2 == 0))
        upstream.script("err=503", times=3)
        for number in range(3):
            await gateway.ask(chat(f"Is anybody there? {number}", model="local/qwen3"))
        await asyncio.sleep(3)
        gateway.config.write_text(config.replace("3600", "7200") + "limits: {requests_per_minute: 600}\n")
        async with looking(browser, gateway, theme="light") as look:
            for name, path in PAGES.items():
                if name in wanted:
                    await look.open(f"/dashboard{path}")
                    await look.page.wait_for_timeout(1500)
                    if name == "playground":
                        await _play(look)
                    await look.page.screenshot(path=DOCS / f"dashboard-{name}.png")
        if "phone" in wanted:
            async with looking(browser, gateway, theme="dark", size="phone") as look:
                await look.open("/dashboard")
                await look.page.wait_for_timeout(1500)
                await look.page.screenshot(path=DOCS / "dashboard-phone.png")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(take(Path(name), sys.argv[1:] or [*PAGES, "phone"]))
