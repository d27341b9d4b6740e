"""Runs clients' programs in an environment of theirs, for the test suite outside it.

A line in: `{"program": path, "do": name of a function, "with": arguments}`. A line out: `{"returned": ...}` or `{"raised": ...}`.
"""

import asyncio
import importlib.util
import inspect
import json
import os
import sys
import traceback
from functools import cache
from types import ModuleType
from typing import Any


@cache
def load(path: str) -> ModuleType:
    """A program, executed once. Two copies of one are two programs."""
    spec = importlib.util.spec_from_file_location("program", path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def kinds(error: BaseException) -> list[str]:
    """Its class and those above, each as `package.Class`."""
    classes = type(error).__mro__
    return [f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in classes if kind.__module__ != "builtins"]


def answer(request: dict[str, Any], loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    try:
        result = getattr(load(request["program"]), request["do"])(*request["with"])
        if inspect.iscoroutine(result):
            result = loop.run_until_complete(result)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the suite judges it
        return {"raised": {"kinds": kinds(exc), "message": str(exc), "trace": traceback.format_exc()}}
    return {"returned": result}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line), runner.get_loop())), file=answers, flush=True)


if __name__ == "__main__":
    main()
