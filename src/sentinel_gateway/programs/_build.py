"""From a definition to a program that can run. Blocking: it imports modules and reads files. `dspy` is the package."""

import hashlib
import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import to_jsonable_python

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.errors import Unprocessable
from sentinel_gateway.programs.definition import Definition
from sentinel_gateway.programs.tools import TOOLS

VERSION_DIGITS: Final = 16
BESIDE: Final = frozenset({"reasoning", "trajectory"})
"""How DSPy's modules came to what they put out: not asked for, where a signature does not name it."""

_encode = msgspec.json.Encoder(order="sorted").encode


class Built:
    """One program, ready to run: `ports.Program`, and how its answer is read."""

    def __init__(self, definition: Definition, module: Any, inputs: type[BaseModel], outputs: tuple[str, ...] | None) -> None:
        self.name = definition.name
        self.semantic = definition.semantic
        self.version = ""
        self.module = module
        self._inputs = inputs
        self._outputs = outputs

    def __repr__(self) -> str:
        return f"<Built {self.name} {self.version}>"

    def read(self, given: str | Fields) -> Fields:
        if isinstance(given, str):
            fields = self._inputs.model_fields
            needed = [name for name, field in fields.items() if field.is_required()] or list(fields)
            if len(needed) != 1:
                takes = f"the program '{self.name}' takes {', '.join(fields)}: send an object that has them"
                raise Unprocessable((("body", "input"), takes))
            given = {needed[0]: given}
        self.typed(given)
        return given

    def typed(self, given: Fields) -> Fields:
        """The inputs as the signature types them; raises `Unprocessable`."""
        try:
            read = self._inputs.model_validate(given)
        except ValidationError as exc:
            faults = ((("body", "input", *map(str, fault["loc"])), fault["msg"]) for fault in exc.errors())
            raise Unprocessable(*faults) from exc
        return {name: getattr(read, name) for name in self._inputs.model_fields}

    def shown(self, put_out: Any) -> Any:
        """What a run of the module has put out, as JSON has it: one output is text, several are an object of them."""
        found: Fields = dict(put_out.items()) if hasattr(put_out, "items") else {"output": put_out}
        names = self._outputs or tuple(name for name in found if name not in BESIDE) or tuple(found)
        if len(names) == 1:
            value = to_jsonable_python(found[names[0]])
            return value if isinstance(value, str) else _encode(value).decode()
        return {name: to_jsonable_python(found[name]) for name in names}


def build(dspy: Any, definition: Definition) -> Built:
    """The program of a definition; raises whatever its module, its signature or its state raises."""
    signature = None if definition.signature is None else dspy.Signature(definition.signature, definition.instructions)
    state = None if definition.state is None else definition.state.read_bytes()
    if definition.module is None:
        module, source = _made(dspy, definition.kind, signature), b""
    else:
        module, source = _imported(dspy, definition.module)
        signature = signature or _signature_of(dspy, module)
    if state is not None:
        module.load_state(_without_models(json.loads(state)))
    module.set_lm(None)  # whatever a program would rather ask, it asks us
    inputs = _from_forward(module) if signature is None else {name: _input(of) for name, of in signature.input_fields.items()}
    strict = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=())
    model: type[BaseModel] = create_model("Input", __config__=strict, **inputs)
    built = Built(definition, module, model, None if signature is None else tuple(signature.output_fields))
    told = msgspec.to_builtins(definition, enc_hook=str)
    parts = (dspy.__version__.encode(), _encode(told), state or b"", source)
    built.version = hashlib.sha256(b"".join(b"%d:%b," % (len(part), part) for part in parts)).hexdigest()[:VERSION_DIGITS]
    return built


def _made(dspy: Any, kind: str, signature: Any) -> Any:
    if kind == "react":
        return dspy.ReAct(signature, tools=list(TOOLS))
    return dspy.ChainOfThought(signature) if kind == "cot" else dspy.Predict(signature)


def _imported(dspy: Any, path: str) -> tuple[Any, bytes]:
    """The module of that path, made if it is a class or a function that makes it; and the text that it was read from."""
    package, _, attribute = path.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)  # at the end: it stands in for nothing that is installed
    found: Any = importlib.import_module(package)
    origin = inspect.getsourcefile(found)
    for name in attribute.split("."):
        found = getattr(found, name)
    module = found if isinstance(found, dspy.Module) else found()
    if not isinstance(module, dspy.Module):
        raise TypeError(f"{path} is no dspy.Module, nor does it make one")
    return module, Path(origin).read_bytes() if origin else b""


def _signature_of(dspy: Any, module: Any) -> Any:
    """The signature that one of DSPy's own modules was made with, or the only one below it that says what it takes; else None."""
    if isinstance(module, dspy.ChainOfThought):
        return module.predict.signature.delete("reasoning")
    if isinstance(module, dspy.Predict | dspy.ReAct):
        return module.signature
    below = module.predictors()
    return below[0].signature if len(below) == 1 and not _named(module) else None


def _input(field: Any) -> tuple[Any, Any]:
    return field.annotation, ... if field.is_required() else field.default


def _from_forward(module: Any) -> dict[str, Any]:
    """Inputs by what a module's `forward` takes; what it doesn't annotate may be anything."""
    inputs = _named(module)
    if not inputs:
        raise TypeError("its forward names no inputs: give it named parameters, or the program a signature")
    empty = inspect.Parameter.empty
    return {
        one.name: (Any if one.annotation is empty else one.annotation, ... if one.default is empty else one.default)
        for one in inputs
    }


def _named(module: Any) -> list[inspect.Parameter]:
    """What its `forward` takes by name."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    _, *takes = inspect.signature(type(module).forward, eval_str=True).parameters.values()
    return [parameter for parameter in takes if parameter.kind in by_name]


def _without_models(state: Fields) -> Fields:
    """A saved state without the models that it was made with, and without what is about the file."""
    told = {name: part for name, part in state.items() if name != "metadata"}
    if "lm" in told:
        return told | {"lm": None}
    return {name: part | {"lm": None} if isinstance(part, dict) and "lm" in part else part for name, part in told.items()}
