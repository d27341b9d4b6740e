"""What every connection to PostgreSQL is made with."""

from sentinel_gateway.core.postgres import connecting, holds_every_name


def test_options_of_the_address_are_joined_by_ours():
    made = connecting("-c search_path=x", connect=3, statement=5, lock=2)
    assert made["options"] == "-c search_path=x -c statement_timeout=5s -c lock_timeout=2s"
    assert (made["connect_timeout"], made["tcp_user_timeout"], made["client_encoding"]) == (3, 5000, "utf8")
    assert made["prepare_threshold"] is None
    assert connecting(None, connect=3, statement=5)["options"] == "-c statement_timeout=5s"


def test_a_database_that_cannot_hold_every_name_is_known_by_its_encoding():
    assert [holds_every_name(encoding) for encoding in ("UTF8", None, "LATIN1", "SQL_ASCII")] == [True, True, False, False]
