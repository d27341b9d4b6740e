"""Where Redis is, in all the ways to say it; and what more than one node need."""

import pytest

PASSWORD = "canary-of-redis"


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "redis://localhost:6379/0",
        "redis://:pw@[::1]:6379/15",
        "rediss://a?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none&ssl_check_hostname=false",
        "rediss://user:p%40w@redis.example.com:6380?db=3",
        "unix:///run/redis.sock?db=1",
        "unix://:pw@/run/redis.sock",
        "redis+sentinel://a:26379,b,[::1]:1/mymaster",
        "rediss+sentinel://:pw@a/mymaster/2?sentinel_password=other",
        "redis+cluster://a:1,b:2",
        "rediss+cluster://:pw@a",
    ],
)
def test_an_address(configure, url):
    assert configure(env={"REDIS_URL": url}).settings.redis.address == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:6379", "is no address of a Redis"),
        ("http://localhost", "is no address of a Redis"),
        ("redis+unix:///run/redis.sock", "is no address of a Redis"),
        ("redis:///0", "names no host, or a port that is none"),
        ("redis://:pw@", "names no host, or a port that is none"),
        ("redis://host:0", "names no host, or a port that is none"),
        ("redis://host:70000", "names no host, or a port that is none"),
        ("redis://host:port", "names no host, or a port that is none"),
        ("redis+cluster://a,,b", "names no host, or a port that is none"),
        ("redis://[::1", "names no host, or a port that is none"),
        ("redis+sentinel://a,[::1/m", "names no host, or a port that is none"),
        ("redis://:[pw@host", "is no address"),
        ("redis://:pw\u2100@host", "is no address"),
        ("redis://a,b", "names several hosts"),
        ("redis://host/zero", "names a database that is no number"),
        ("redis://host/0/1", "names a database that is no number"),
        ("redis://host?db=", "names a database that is no number"),
        ("redis+sentinel://host", "names no master"),
        ("redis+sentinel://host/m/x", "names a database that is no number"),
        ("redis+cluster://host/0", "names a database, but a cluster has only one"),
        ("redis+cluster://host?db=0", "names a database, but a cluster has only one"),
        ("unix://", "names no socket"),
        ("redis://host?socket_timeout=9", "has an option that is none of db"),
        ("redis://host?sentinel_password=pw", "has an option that is none of db"),
        ("redis+sentinel://host/m?dc=1", "has an option that is none of db, sentinel_password"),
        ("redis://host?ssl_cert_reqs=none", "has an option of TLS, which only rediss://... uses"),
        ("unix:///socket?ssl_cert_reqs=none", "has an option of TLS, which only rediss://... uses"),
        ("rediss://host?ssl_cert_reqs=maybe", "has a ssl_cert_reqs that is none of none, optional, required"),
        ("rediss://host?ssl_check_hostname=0", "has a ssl_check_hostname that is none of false, true"),
    ],
)
def test_what_is_no_address(faults, url, why):
    [(place, sentence)] = faults(env={"REDIS_URL": url.replace("pw", PASSWORD)})
    assert place == "env REDIS_URL"
    assert sentence.startswith(f"{why}: write redis://")
    assert PASSWORD not in sentence


def test_the_parts_of_seed_004_make_an_address(configure):
    env = {"REDIS_HOST": "redis", "REDIS_PORT": "7000", "REDIS_PASSWORD": "p@s/s:?#", "REDIS_DB": "4"}
    assert configure(env=env).settings.redis.address == "redis://:p%40s%2Fs%3A%3F%23@redis:7000/4"


def test_the_url_beats_the_parts(configure):
    env = {"REDIS_URL": "redis://one", "REDIS_HOST": "other", "REDIS_DB": "4"}
    assert configure(env=env).settings.redis.address == "redis://one"


def test_without_a_host_there_is_no_redis(configure):
    assert configure(env={"REDIS_PORT": "7000", "REDIS_DB": "4", "REDIS_PASSWORD": "x"}).settings.redis.address is None


def test_nodes_need_redis_and_one_secret(faults, configure):
    assert dict(faults(env={"SENTINEL_REPLICAS": "2"})) == {
        "env SENTINEL_REPLICAS": "more than one node need Redis, where they meet: set REDIS_URL, or leave replicas at 1",
        "secret": "more than one node need the same secret: make one with 'openssl rand -hex 32', set SENTINEL_SECRET on all",
    }
    env = {"SENTINEL_REPLICAS": "2", "REDIS_HOST": "redis", "SENTINEL_SECRET": "5f2b8c0de1a94f7763b2c9d80e4f1a6b"}
    loaded = configure(env=env)
    assert loaded.settings.replicas == 2
    assert any("client keys are kept in the data folder" in note for note in loaded.notes)
    assert not any("client keys" in note for note in configure(env=env | {"SENTINEL_KEYS__REQUIRED": "false"}).notes)
    [(place, sentence)] = faults(env=env | {"SENTINEL_KEYS__REQUIRED": "true"})
    assert place == "env SENTINEL_KEYS__REQUIRED"
    assert "keys that all nodes know need PostgreSQL: set SENTINEL_DATABASE_URL, or leave it out" in sentence
    shared = env | {"SENTINEL_DATABASE_URL": "postgresql://db/sentinel"}
    assert not any("client keys" in note for note in configure(env=shared).notes)
    assert configure(env=shared | {"SENTINEL_KEYS__REQUIRED": "true"}).settings.keys.required


def test_an_address_that_is_none_is_one_fault(faults):
    env = {"SENTINEL_REPLICAS": "2", "REDIS_URL": "nowhere", "SENTINEL_SECRET": "5f2b8c0de1a94f7763b2c9d80e4f1a6b"}
    assert [place for place, _ in faults(env=env)] == ["env REDIS_URL"]


def test_a_disk_that_redis_stands_in_for_is_noted(configure):
    yaml = "cache: {disk: {bytes: 1GiB}}"
    assert configure(yaml).notes == ()
    notes = configure(yaml, env={"REDIS_HOST": "redis"}).notes
    assert notes == ("cache.disk is set, but where Redis keeps the answers it has no effect",)


def test_a_password_in_the_file_is_never_shown(faults):
    sentences = faults(f"redis: {{url: 'redis://:{PASSWORD}@a,b', password: '{PASSWORD}', port: x}}")
    assert len(sentences) == 2
    assert PASSWORD not in str(sentences)
