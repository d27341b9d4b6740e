"""Import every module below a folder, one after the other, and print as JSON what that did besides defining things.

Usage: python import_effects.py FOLDER. The answer maps each module to its effects: the environment read, files written or
changed, sockets, threads, processes, handlers for logs or signals, or that it can't be imported on its own.

All other packages are imported beforehand, and before a module what it needs of the folder, so what is seen is its own doing.
What it does not need is out of sight meanwhile: who leans on what others have imported is noticed, as in a process of its own.
"""

import ast
import compileall
import importlib
import json
import logging
import os
import pathlib
import signal
import sys
import threading
import types
from collections.abc import Iterator

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


class Watch:
    """Imports modules, and tells what each did. For a process of its own, which is watched from now on."""

    def __init__(self, folder: str) -> None:
        self._seen: list[str] = []
        os.environ = WatchedEnvironment(folder, self._seen)  # noqa: B003 - only our own readers are to see it
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & WRITING
        if writes or event.startswith(EFFECTS):
            self._seen.append(f"{event} {args[0] if args else ''}".strip())

    def effects_of(self, name: str) -> list[str]:
        """Of its import; one that has any does not stay."""
        self._seen.clear()
        threads, handlers = set(threading.enumerate()), handlers_now()
        try:
            importlib.import_module(name)
        except Exception as exc:  # noqa: BLE001 - whatever a module raises is its effect
            self._seen.append(f"{type(exc).__name__}: {exc}")
        self._seen += [f"thread {thread.name}" for thread in threading.enumerate() if thread not in threads]
        if handlers_now() != handlers:
            self._seen.append("handlers for logs or signals")
        if self._seen:
            forget({name})
        return self._seen


def handlers_now() -> tuple[list[object], list[object]]:
    return [*logging.getLogger().handlers], [signal.getsignal(number) for number in sorted(signal.valid_signals())]


def forget(names: set[str]) -> dict[str, types.ModuleType]:
    """As if these had never been imported; those that were."""
    forgotten = {name: sys.modules.pop(name) for name in sys.modules.keys() & names}
    for name, module in forgotten.items():
        package, _, last = name.rpartition(".")
        around = forgotten.get(package) or sys.modules.get(package)
        if getattr(around, last, None) is module:
            delattr(around, last)
    return forgotten


def remember(forgotten: dict[str, types.ModuleType]) -> None:
    """As it was before `forget`."""
    sys.modules.update(forgotten)
    for name, module in forgotten.items():
        package, _, last = name.rpartition(".")
        if package in sys.modules:
            setattr(sys.modules[package], last, module)


def in_a_child(names: list[str], folder: str, needs: "Needs") -> Iterator[tuple[str, list[str]]]:
    """The effects of each, one after the other in a fork of this process, as far as that comes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        watch = Watch(folder)
        for name in names:
            forgotten = forget(needs.not_of(name))
            os.write(writer, json.dumps((name, watch.effects_of(name))).encode() + b"\n")
            remember(forgotten)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        yield from map(json.loads, pipe)
    os.waitpid(child, 0)


def modules(folder: pathlib.Path) -> dict[str, ast.Module]:
    """Every module below `folder`, by its dotted name."""
    paths = sorted(folder.rglob("*.py"))
    names = [".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return {name: ast.parse(path.read_text()) for name, path in zip(names, paths, strict=True)}


def imported_by(nodes: Iterator[ast.AST]) -> Iterator[tuple[str, list[str]]]:
    """The absolute names of modules in import statements, each with what is taken from it: names, or modules within."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, [alias.name for alias in node.names]


def run_by_import(node: ast.AST) -> Iterator[ast.AST]:
    """All within but functions, and what is there for type checkers."""
    for inner in ast.iter_child_nodes(node):
        is_for_types = isinstance(inner, ast.If) and ast.unparse(inner.test) == "TYPE_CHECKING"
        if not is_for_types and not isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
            yield inner
            yield from run_by_import(inner)


class Needs:
    """What the modules of a folder import of each other, when they are imported themselves."""

    def __init__(self, found: dict[str, ast.Module]) -> None:
        self._direct = {name: [one for one in self._named(name, tree) if one in found] for name, tree in found.items()}
        self._all = {name: self.of(name).keys() for name in found}

    def of(self, *names: str) -> dict[str, None]:
        """All that these need, and they themselves: each after what it needs, unless both need each other."""
        entered: set[str] = set()
        ordered: dict[str, None] = {}

        def enter(name: str) -> None:
            if name not in entered:
                entered.add(name)
                for other in self._direct[name]:
                    enter(other)
                ordered[name] = None

        for name in names:
            enter(name)
        return ordered

    def not_of(self, name: str) -> set[str]:
        """All others, and those that need it themselves."""
        return {other for other, needs in self._all.items() if other not in self._all[name] or name in needs}

    @staticmethod
    def _named(name: str, tree: ast.Module) -> Iterator[str]:
        for module, taken in [(name, []), *imported_by(run_by_import(tree))]:
            parts = module.split(".")
            yield from (".".join(parts[:length]) for length in range(1, len(parts)))  # the packages around it come first
            yield module
            yield from (f"{module}.{one}" for one in taken)


def main(folder: pathlib.Path) -> None:
    compileall.compile_dir(folder, quiet=2)  # once, and not by each child
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    found = modules(folder)
    own = {name.partition(".")[0] for name in found}
    for name in {name for tree in found.values() for name, _ in imported_by(ast.walk(tree))}:
        if name.partition(".")[0] not in own:
            importlib.import_module(name)
    needs, effects = Needs(found), dict[str, list[str]]()
    while left := [name for name in needs.of(*found) if name not in effects and not name.endswith("__main__")]:
        effects |= in_a_child(left, str(folder), needs)
        if left[-1] not in effects:
            effects[next(name for name in left if name not in effects)] = ["the process ended"]
    print(json.dumps(effects))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
