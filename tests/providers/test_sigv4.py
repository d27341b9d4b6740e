"""Signatures as AWS makes them: vectors of its own test suite for version 4 (region us-east-1, service `service`)."""

from datetime import UTC, datetime

import pytest

from sentinel_gateway.providers._sigv4 import Credentials, Scope, Signable, sign

NOW = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
SCOPE = Scope("us-east-1", "service")
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HOST = {"Host": "example.amazonaws.com"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

VECTORS = {
    "get-vanilla": ("GET", "/", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    "get-vanilla-query-order-key-case": (
        *("GET", "/?Param2=value2&Param1=value1", {}, b""),
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-utf8": ("GET", "/\u1234", {}, b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    "get-header-value-trim": (
        *("GET", "/", {"My-Header1": " value1", "My-Header2": ' "a   b   c"'}, b""),
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "post-vanilla": ("POST", "/", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    "post-x-www-form-urlencoded": (
        *("POST", "/", FORM, b"Param1=value1"),
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_signatures_of_awss_own_suite(name):
    method, target, headers, body, signature = VECTORS[name]
    signed = sign(Signable(method, target, HOST | headers, body), Credentials("AKIDEXAMPLE", SECRET), SCOPE, now=NOW)
    names = ";".join(sorted(header.lower() for header in [*HOST, *headers, "x-amz-date"]))
    where = "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"
    assert signed == {
        "x-amz-date": "20150830T123600Z",
        "authorization": f"AWS4-HMAC-SHA256 {where}, SignedHeaders={names}, Signature={signature}",
    }


def test_a_session_s_token_is_sent_and_signed():
    signed = sign(Signable("POST", "/", HOST, b""), Credentials("AKIDEXAMPLE", SECRET, "a-token"), SCOPE, now=NOW)
    assert signed["x-amz-security-token"] == "a-token"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in signed["authorization"]


def test_all_that_is_asked_is_signed():
    def signature(**other):
        request = {"method": "POST", "target": "/a?b=c", "headers": HOST, "body": b"x", **other}
        return sign(Signable(**request), Credentials("AKIDEXAMPLE", SECRET), SCOPE, now=NOW)["authorization"]

    changes = [{"method": "PUT"}, {"target": "/b?b=c"}, {"target": "/a?b=d"}, {"headers": {"Host": "x"}}, {"body": b"y"}]
    assert len({signature(), *(signature(**change) for change in changes)}) == 6


def test_a_path_is_signed_as_it_is_sent():
    """What was encoded is encoded once more; the signature is that of AWS' own SDK."""
    path = "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Feu.x/converse"
    asked = Signable("POST", path, {"host": "bedrock-runtime.eu-west-1.amazonaws.com"}, b"{}")
    signed = sign(asked, Credentials("AK", "SK", "TOK"), Scope("eu-west-1", "bedrock"), now=1_700_000_000)
    assert signed["authorization"].endswith("Signature=24d6c802bd6b9e03fe4c3e6495099eccef23741f870e14fba5456be1514ab1c7")


def test_credentials_keep_their_secrets():
    assert repr(Credentials("AKIDEXAMPLE", SECRET, "token")) == "<Credentials AKIDEXAMPLE>"
