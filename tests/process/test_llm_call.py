"""Seed 003's walk-through, step 7: what a call cost stands in the log, to be found with `grep "LLM CALL (Groq)"`."""

import re
import sys
from pathlib import Path

from bench.processes import Process

ROOT = Path(__file__).parents[2]
USD_A_TOKEN = {"mixtral-8x7b-32768": 0.24e-6, "groq/a-model-without-a-price": None}
"""By the price library, the same for both kinds of tokens. The other is told at another model's price, as an estimate."""


def test_walkthrough_step_7(serve, tmp_path) -> None:
    command = (sys.executable, "-m", "bench.chaos")
    with Process("mock", command, environment={"PYTHONPATH": str(ROOT)}, directory=tmp_path, core=0) as mock:
        upstream = mock.wait_for_line().split()[-1]
        program = serve(GROQ_API_KEY="gsk_a-canary", GROQ_BASE_URL=f"{upstream}/tokens=1000/v1", LOG_FORMAT="text")
        answers = []
        for model in USD_A_TOKEN:
            for _ in range(2):
                answer = program.request("POST", "/v1/query", {"prompt": "What is 2+2?", "model": model, "provider": "groq"})
                answers.append(answer.json)
        program.stop()
    asked = [answer for answer in answers if not answer["cache_hit"]]
    calls = [line for line in program.lines.read_text().splitlines() if "LLM CALL (Groq)" in line]
    for line, answer, price in zip(calls, asked, USD_A_TOKEN.values(), strict=True):
        tokens = answer["tokens_used"]
        cost = r"\$0\.00\d{4} \(estimated\)" if price is None else re.escape(f"${tokens * price:.6f}")
        assert re.search(r"LLM CALL \(Groq\): latency=\d+\.\dms \| ", line), line
        assert re.search(rf"cost={cost} \| tokens={tokens}$", line), line
        assert tokens > 1000
        assert "2+2" not in line
        assert "canary" not in line
