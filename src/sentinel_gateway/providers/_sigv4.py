"""AWS Signature Version 4, as far as a request with a body and no special headers needs it. Pure.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. Tested with the signatures of
AWS's own test suite.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, quote

import msgspec

ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Credentials(msgspec.Struct, frozen=True):
    """Who signs. `token` belongs to credentials that end; empty for those that don't."""

    access_key: str
    secret_key: str
    token: str = ""

    def __repr__(self) -> str:
        return f"<Credentials {self.access_key}>"


class Scope(msgspec.Struct, frozen=True):
    """What a signature is good for."""

    region: str
    service: str


class Signable(msgspec.Struct, frozen=True):
    """A request as it goes out: `target` is its path with the query, both encoded; `headers` are those to be signed."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


def sign(request: Signable, credentials: Credentials, scope: Scope, *, now: float) -> dict[str, str]:
    """The headers that the signature adds. `now` in Unix seconds."""
    moment = datetime.fromtimestamp(now, UTC)
    date = moment.strftime("%Y%m%dT%H%M%SZ")
    added = {"x-amz-date": date, **({"x-amz-security-token": credentials.token} if credentials.token else {})}
    headers = {name.lower(): " ".join(value.split()) for name, value in {**request.headers, **added}.items()}
    names = ";".join(sorted(headers))
    where = f"{date[:8]}/{scope.region}/{scope.service}/aws4_request"
    canonical = _canonical(request, headers, names)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signature = hmac.new(_key(credentials, where), f"{ALGORITHM}\n{date}\n{where}\n{digest}".encode(), hashlib.sha256)
    told = f"Credential={credentials.access_key}/{where}, SignedHeaders={names}, Signature={signature.hexdigest()}"
    return {**added, "authorization": f"{ALGORITHM} {told}"}


def _canonical(request: Signable, headers: Mapping[str, str], names: str) -> str:
    path, _, query = request.target.partition("?")
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in parse_qsl(query, keep_blank_values=True)
    )
    return "\n".join(
        [
            request.method,
            quote(path, safe="/-_.~"),  # encoded once more: what is signed is the path as it is sent
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{headers[name]}" for name in sorted(headers)),
            "",
            names,
            hashlib.sha256(request.body).hexdigest(),
        ]
    )


def _key(credentials: Credentials, where: str) -> bytes:
    key = f"AWS4{credentials.secret_key}".encode()
    for part in where.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
