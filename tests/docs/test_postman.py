"""The Postman collection asks for routes that there are; `make test-sdks` has newman run it."""

import json
import re
from pathlib import Path

from tests.process.conftest import serve

__all__ = ["serve"]

TEXT = (Path(__file__).parents[2] / "examples" / "postman" / "sentinel.postman_collection.json").read_text()
COLLECTION = json.loads(TEXT)
REQUESTS = [item for folder in COLLECTION["item"] for item in folder["item"]]


def test_every_request_is_of_a_route_that_there_is(serve):
    asked = {(item["request"]["method"], "/" + "/".join(item["request"]["url"]["path"])) for item in REQUESTS}
    paths = serve().request("GET", "/openapi.json").json["paths"]
    assert asked <= {(method.upper(), path) for path, item in paths.items() for method in item}
    assert len(asked) > 15


def test_each_request_is_checked_and_every_variable_is_one_of_its_own():
    assert [item["name"] for item in REQUESTS if not any(event["listen"] == "test" for event in item["event"])] == []
    assert set(re.findall(r"{{(\w+)}}", TEXT)) <= {variable["key"] for variable in COLLECTION["variable"]}
