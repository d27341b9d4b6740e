"""Import every module below a folder, each in a process of its own, and print as JSON what that did besides defining things.

Usage: python import_effects.py FOLDER. The answer maps each module to its effects: the environment read, files written or
changed, sockets, threads, processes, handlers for logs or signals, or that it can't be imported on its own.

Third-party modules are imported beforehand, so what is seen is done by the folder's own modules, and each child starts fast.
"""

import ast
import importlib
import json
import logging
import os
import pathlib
import signal
import sys
import threading

EFFECTS = (
    "os.chmod",
    "os.link",
    "os.mkdir",
    "os.putenv",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.system",
    "os.truncate",
    "os.unsetenv",
    "shutil.",
    "socket.",
    "sqlite3.connect",
    "subprocess.Popen",
    "tempfile.",
)
"""How the audit events begin that an import must not raise."""

CORES = len(os.sched_getaffinity(0))
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC


class WatchedEnvironment(dict[str, str]):
    """Tells when a file below `folder` reads a variable."""

    def __init__(self, folder: str, seen: list[str]) -> None:
        super().__init__(os.environ)
        self.folder = folder
        self.seen = seen

    def note(self, name: str) -> None:
        frame = sys._getframe(2)  # noqa: SLF001 - the only way to learn who asks
        while frame.f_code.co_filename in {os.__file__, "<frozen os>"}:
            frame = frame.f_back
        if frame.f_code.co_filename.startswith(self.folder):
            self.seen.append(f"environment {name}")

    def __getitem__(self, name: str) -> str:
        self.note(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.note(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: str | None = None) -> str | None:
        self.note(name)
        return super().get(name, default)


def effects_of(name: str, folder: str) -> list[str]:
    """Import `name` and tell what happened. To be called in a process that ends afterwards."""
    seen: list[str] = []

    def watch(event: str, args: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & WRITING
        if writes or event.startswith(EFFECTS):
            seen.append(f"{event} {args[0] if args else ''}".strip())

    handlers = handlers_now()
    os.environ = WatchedEnvironment(folder, seen)  # noqa: B003 - only our own readers are to see it
    sys.addaudithook(watch)
    try:
        importlib.import_module(name)
    except Exception as exc:  # noqa: BLE001 - whatever a module raises is its effect
        seen.append(f"{type(exc).__name__}: {exc}")
    seen += [f"thread {thread.name}" for thread in threading.enumerate() if thread is not threading.main_thread()]
    if handlers_now() != handlers:
        seen.append("handlers for logs or signals")
    return seen


def handlers_now() -> tuple[list[object], list[object]]:
    return [*logging.getLogger().handlers], [signal.getsignal(number) for number in sorted(signal.valid_signals())]


def in_children(names: list[str], folder: str) -> dict[str, list[str]]:
    """`effects_of` of each, in forks of this process, as many at a time as there are cores."""
    effects = {}
    for start in range(0, len(names), CORES):
        children = {name: begun(name, folder) for name in names[start : start + CORES]}
        effects |= {name: ended(*child) for name, child in children.items()}
    return effects


def begun(name: str, folder: str) -> tuple[int, int]:
    """A child's process, and where it answers."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, json.dumps(effects_of(name, folder)).encode())
        os._exit(0)
    os.close(writer)
    return child, reader


def ended(child: int, reader: int) -> list[str]:
    """What it answers."""
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return json.loads(answer) if answer else ["the process ended"]


def modules(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Every module below `folder`, by its dotted name."""
    paths = sorted(folder.rglob("*.py"))
    return {".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported_by(path: pathlib.Path) -> set[str]:
    """The absolute names in a file's import statements."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def main(folder: pathlib.Path) -> None:
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    found = modules(folder)
    own = {name.partition(".")[0] for name in found}
    for name in set().union(*map(imported_by, found.values())):
        if name.partition(".")[0] not in own:
            importlib.import_module(name)
    print(json.dumps(in_children([name for name in found if not name.endswith("__main__")], str(folder))))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
