"""What the shape of the code is held to: sizes, and constructs that are banned or need a reason.

Functions over source text, so that each rule is proved on a snippet that breaks it (test_budget.py).
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MODULE_LINES = 400
FUNCTION_LINES = 60
MEDIAN_FUNCTION_LINES = 10
PARAMETERS = 6

UNSAFE_MODULES = frozenset({"dill", "marshal", "pickle", "shelve"})
"""Loading from these runs whatever the data says."""
UNSAFE_CALLS = frozenset(
    {"eval", "exec", "__import__", "os.popen", "os.system", "yaml.full_load", "yaml.load", "yaml.load_all", "yaml.unsafe_load"}
)
ENVIRONMENT = frozenset({"os.environ", "os.environb", "os.getenv"})
SQL = re.compile(r"\s*(ALTER|CREATE|DELETE|DROP|INSERT|PRAGMA|REPLACE|SELECT|UPDATE|WITH)\s")
EXECUTE = frozenset({"execute", "executemany", "executescript"})

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Fault:
    """One breach of `rule`, in the function or class `scope`."""

    line: int
    scope: str
    rule: str

    def __str__(self) -> str:
        return f"{self.line} {self.scope}: {self.rule}"


def faults(source: str, *, broad_excepts: Mapping[str, str], reads_environment: bool) -> list[Fault]:
    """Every breach in one module. `broad_excepts` maps the scopes that may catch everything to the reason."""
    tree = ast.parse(source)
    found = [Fault(1, "module", f"{n} lines, at most {MODULE_LINES}")] if (n := source.count("\n")) > MODULE_LINES else []
    for scope, node in walk(tree):
        rules = _faults_of(node, allowed_broad=scope in broad_excepts, reads_environment=reads_environment)
        found += [Fault(getattr(node, "lineno", 1), scope, rule) for rule in rules]
    return found


def walk(tree: ast.AST, scope: str = "module") -> Iterator[tuple[str, ast.AST]]:
    """Each node with the qualified name of the class or function it stands in (its own, for a function)."""
    for node in ast.iter_child_nodes(tree):
        inner = scope
        if isinstance(node, FunctionNode | ast.ClassDef):
            inner = node.name if scope == "module" else f"{scope}.{node.name}"
        yield inner, node
        yield from walk(node, inner)


def function_lengths(source: str) -> list[int]:
    """Lines of each function, nested ones too, decorators not counted."""
    return [length(node) for _, node in walk(ast.parse(source)) if isinstance(node, FunctionNode)]


def length(node: FunctionNode) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def broad_scopes(source: str) -> set[str]:
    """Where everything is caught."""
    return {scope for scope, node in walk(ast.parse(source)) if isinstance(node, ast.ExceptHandler) and _catches_all(node)}


def _faults_of(node: ast.AST, *, allowed_broad: bool, reads_environment: bool) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from _size_faults(node)
        case ast.Import() | ast.ImportFrom():
            yield from (f"imports {name}" for name in _imported(node) if name.partition(".")[0] in UNSAFE_MODULES)
        case ast.Call():
            yield from _call_faults(node)
        case ast.Global():
            yield f"global {', '.join(node.names)}"
        case ast.ExceptHandler() if _catches_all(node) and not allowed_broad:
            yield "a broad except without a listed reason"
        case ast.Attribute() if _dotted(node) in ENVIRONMENT and not reads_environment:
            yield f"reads {_dotted(node)}"
        case ast.JoinedStr() if _is_sql(node):
            yield "SQL built by an f-string"


def _size_faults(function: FunctionNode) -> Iterator[str]:
    if (lines := length(function)) > FUNCTION_LINES:
        yield f"{lines} lines, at most {FUNCTION_LINES}"
    if (count := _parameters(function.args)) > PARAMETERS:
        yield f"{count} parameters, at most {PARAMETERS}"


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]


def _parameters(args: ast.arguments) -> int:
    named = [*args.posonlyargs, *args.args]
    without_self = named[1:] if named and named[0].arg in {"self", "cls"} else named
    return len(without_self) + len(args.kwonlyargs) + bool(args.vararg) + bool(args.kwarg)


def _catches_all(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or _dotted(kind).rpartition(".")[2] in {"Exception", "BaseException"} for kind in caught)


def _call_faults(call: ast.Call) -> Iterator[str]:
    name = _dotted(call.func)
    if name in UNSAFE_CALLS:
        yield f"calls {name}"
    for keyword in call.keywords:
        if keyword.arg == "shell" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False):
            yield "runs a shell"
    if name.rpartition(".")[2] in EXECUTE and call.args and _is_built(call.args[0]):
        yield "executes SQL that is built, not constant"


def _is_built(text: ast.expr) -> bool:
    """True for `a + b`, `a % b` and `a.format(...)`."""
    return isinstance(text, ast.BinOp) or (isinstance(text, ast.Call) and _dotted(text.func).endswith("format"))


def _is_sql(text: ast.JoinedStr) -> bool:
    """True for an f-string that starts as a statement and has something filled in."""
    match text.values:
        case [ast.Constant(value=str(start)), _, *_]:
            return bool(SQL.match(start))
    return False


def _dotted(node: ast.AST) -> str:
    """`a.b.c` as written; the part after a call or a literal is kept (`'x'.format` is `.format`)."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""
