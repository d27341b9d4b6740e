"""What the built-in agent may use: nothing here reads a file, opens a connection, runs code, or takes long.

A tool answers with a sentence where it can't help: what it raised would reach the model with our file names in it.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Context, Decimal, DecimalException, DivisionByZero, InvalidOperation, Overflow, localcontext
from typing import Final

LONGEST: Final = 200
"""Characters of an expression."""
PRECISION: Final = Context(prec=28, Emax=9999, Emin=-9999, traps=[DivisionByZero, InvalidOperation, Overflow])
"""No sum takes long, or much memory, however large its numbers are."""
SIGNS: Final = {0xD7: "*", 0xF7: "/", 0x2212: "-"}
"""Those of printed mathematics, and what Python has for them."""
NO_VALUE: Final = "It has no value, or one too large."
OPERATORS: Final[Mapping[type[ast.operator], Callable[[Decimal, Decimal], Decimal]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitXor: operator.pow,  # people write powers so
}


def calculator(expression: str) -> str:
    """The value of an arithmetic expression: numbers, + - * / // % **, and parentheses."""
    written = expression.translate(SIGNS).strip()
    if len(written) > LONGEST:
        return f"This is too long: an expression has at most {LONGEST} characters."
    try:
        tree = ast.parse(written, mode="eval")
        with localcontext(PRECISION):
            value = _value(tree.body).normalize()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "This is no arithmetic: write numbers, + - * / // % ** and parentheses."
    except DecimalException as exc:
        return "It divides by zero." if isinstance(exc, DivisionByZero) else NO_VALUE
    if not value.is_finite():
        return NO_VALUE
    return f"{value:f}" if abs(value.adjusted()) < PRECISION.prec else str(value)


def _value(node: ast.expr) -> Decimal:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return Decimal(repr(number))
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
            value = _value(operand)
            return -value if isinstance(sign, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left), _value(right))
    raise ValueError


def today() -> str:
    """The date of today in UTC, such as 2026-01-31, and the day of the week."""
    return f"{datetime.now(UTC):%Y-%m-%d, %A}"


def days_between(first: str, last: str) -> str:
    """How many days it is from one date to another; both as 2026-01-31."""
    try:
        return str((date.fromisoformat(last) - date.fromisoformat(first)).days)
    except ValueError:
        return "This is no date: write both as 2026-01-31."


TOOLS: Final = (calculator, today, days_between)
