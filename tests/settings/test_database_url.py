"""Where PostgreSQL is, in all the ways to say it; and that what is none never shows its password."""

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

PASSWORD = "canary-of-postgres"
ESCAPES = "in a user's name or a password write % as %25, @ as %40, / as %2F, ? as %3F and # as %23"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://localhost/sentinel",
        "postgresql://user:a%25b%40c%2Fd@[::1]:5432/sentinel?sslmode=require",
        "postgresql://user@a,b/sentinel",
        "postgresql:///sentinel?host=/run/postgresql&password=a@b",
    ],
)
def test_an_address(configure, url):
    assert configure(env={"SENTINEL_DATABASE_URL": url}).settings.database_url.get_secret_value() == url
    assert make_url(url).database == conninfo_to_dict(url)["dbname"] == "sentinel"


def test_the_short_scheme(configure):
    address = configure(env={"SENTINEL_DATABASE_URL": "postgres://db/sentinel"}).settings.database_url
    assert address.get_secret_value() == "postgresql://db/sentinel"


@pytest.mark.parametrize(
    ("url", "why", "fix"),
    [
        ("postgresql://user:pw%@host/db", "holds a % or an @ that stands for itself", ESCAPES),
        ("postgresql://user:pw%ss@host/db", "holds a % or an @ that stands for itself", ESCAPES),
        ("postgresql://user:p@pw@host/db", "holds a % or an @ that stands for itself", ESCAPES),
        ("postgresql://user:1/pw@host", "holds a % or an @ that stands for itself", ESCAPES),
        ("postgresql://user:pw#1@host/db", "is no address", ESCAPES),
        ("postgresql://user:[pw@host/db", "is no address", ESCAPES),
        ("postgresql://user:pw@host:70000/db", "is no address", "write postgresql://"),
        ("mysql://user:pw@host/db", "is no address of a PostgreSQL", "write postgresql://"),
        ("postgresql://user:pw@host", "names no database, or a port that is none", "write postgresql://"),
        ("postgresql://user:pw@host:/db", "names no database, or a port that is none", "write postgresql://"),
        ("postgresql://user:pw@host:0/db", "names no database, or a port that is none", "write postgresql://"),
        ("postgresql://user:pw@host/db/x", "names no database, or a port that is none", "write postgresql://"),
        ("postgresql://user:pw@host/db?pool_size=5", "is not as PostgreSQL reads it, or has a parameter", "write postgresql://"),
        ("postgresql://user:pw@host/db?sslmode", "is not as PostgreSQL reads it, or has a parameter", "write postgresql://"),
        ("postgresql://user:pw%00@host/db", "is not as PostgreSQL reads it, or has a parameter", "write postgresql://"),
        ("postgresql://user:pw x@host/db", "is not as PostgreSQL reads it, or has a parameter", "write postgresql://"),
    ],
)
def test_what_is_no_address(faults, url, why, fix):
    [(place, sentence)] = faults(env={"SENTINEL_DATABASE_URL": url.replace("pw", PASSWORD)})
    assert place == "env SENTINEL_DATABASE_URL"
    assert sentence.startswith(why)
    assert fix in sentence
    assert PASSWORD not in sentence
