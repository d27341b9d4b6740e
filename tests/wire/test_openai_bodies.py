"""Errors and models as OpenAI writes them."""

import msgspec

from sentinel_gateway.api.wire.openai import encode, error_body, error_members, model_list, model_object
from sentinel_gateway.errors import InternalError, InvalidField, UpstreamRefused


def test_an_error():
    error = InvalidField("'n' is wrong: é.", param="n")
    members = {"message": "'n' is wrong: é.", "type": "invalid_request_error", "param": "n", "code": "invalid_value"}
    assert error_members(error) == members
    assert msgspec.json.decode(error_body(error)) == {"error": members}


def test_an_error_about_nothing_in_the_request():
    assert error_members(InternalError("x")) == {"message": "x", "type": "api_error", "param": None, "code": "internal_error"}


def test_a_providers_own_code_is_passed_on_if_it_is_one():
    codes = {
        code: UpstreamRefused("x", upstream_status=400, upstream_code=code).shown_code for code in ("too_long", "a b", "", None)
    }
    assert codes == {"too_long": "too_long", "a b": "upstream_refused", "": "upstream_refused", None: "upstream_refused"}


def test_models():
    model = model_object("groq/llama", owner="groq", created=7)
    assert model == {"id": "groq/llama", "object": "model", "created": 7, "owned_by": "groq"}
    assert msgspec.json.decode(model_list(iter([model]))) == {"object": "list", "data": [model]}
    assert model_list([]) == b'{"object":"list","data":[]}'
    assert encode({"é": [1]}) == '{"é":[1]}'.encode()
