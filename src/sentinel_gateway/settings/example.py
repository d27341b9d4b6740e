"""Writes `.env.example`: every variable that is read, commented out, with a line of help.

`python -m sentinel_gateway.settings.example > .env.example`
"""

import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from sentinel_gateway.settings.environment import prefixed_name
from sentinel_gateway.settings.schema import fixed_settings
from sentinel_gateway.settings.variables import CONFIG, VARIABLES, Variable

HEAD: Final = f"""\
# Copy to .env and remove the '#' of what you need. Every line shows the default, or what a value looks like.
# Flags win over the environment, the environment over this file, this file over sentinel.yaml. An empty value counts as not set.
# NAME_FILE names a file that holds the value of NAME, for Docker's and Kubernetes' secrets.
# Any other setting a.b of sentinel.yaml is SENTINEL_A__B here: SENTINEL_PROVIDERS__LOCAL__BASE_URL, SENTINEL_MODELS__FAST.

# The YAML file, instead of ./sentinel.yaml.
#{CONFIG}=sentinel.yaml
"""


def env_example() -> str:
    """The text of `.env.example`."""
    fields = dict(fixed_settings())
    named = {variable.location for variable in VARIABLES}
    blocks = [_block(list(group), fields) for _, group in groupby(VARIABLES, lambda variable: (variable.location, variable.help))]
    blocks += [
        f"# {field.description}\n#{prefixed_name(location)}={as_text(field.default)}".rstrip() + "\n"
        for location, field in fields.items()
        if location not in named
    ]
    return "\n".join([HEAD, *blocks])


def as_text(value: Any) -> str:
    """A default as it would be written in a variable."""
    match value:
        case None | ():
            return ""
        case bool():
            return str(value).lower()
        case ByteSize():
            return value.human_readable().replace(".0", "")
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(map(as_text, value))
        case _:
            return str(value)


def _block(variables: list[Variable], fields: dict[tuple[str, ...], FieldInfo]) -> str:
    return f"# {_help(variables[0], fields)}\n" + "".join(_lines(variables, fields))


def _help(variable: Variable, fields: dict[tuple[str, ...], FieldInfo]) -> str:
    return variable.help or fields[variable.location].description or ""


def _lines(variables: list[Variable], fields: dict[tuple[str, ...], FieldInfo]) -> Iterator[str]:
    for variable in variables:
        field = fields.get(variable.location)
        yield f"#{variable.name}={variable.sample or (as_text(field.default) if field else '')}\n"


if __name__ == "__main__":
    sys.stdout.write(env_example())
