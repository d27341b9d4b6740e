"""The admin key: made and shown once, kept as its hash, and never one that nobody has."""

import msgspec
import pytest

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.stores.admin_key import FILE, AdminKey, admin_key, digest_of
from tests.contract.keys.racing import RACERS, raced


def refused(folder) -> str:
    with pytest.raises(ConfigurationError) as error:
        admin_key(folder, None)
    [(_, sentence)] = error.value.faults
    return sentence


def test_the_first_start_shows_one_that_holds_from_then_on(tmp_path):
    folder = tmp_path / "new" / "data"
    made = admin_key(folder, None)
    assert made.fresh.startswith("sk-sn-admin-")
    assert made.digest == digest_of(made.fresh)
    assert admin_key(folder, None) == AdminKey(made.digest)
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert (folder / FILE).read_text() == made.digest
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_configured_one_is_kept_nowhere(tmp_path):
    assert admin_key(tmp_path / "data", "the-operators-own") == AdminKey(digest_of("the-operators-own"))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"changeme", b"a" * 63, b"A" * 64, b"a" * 65, bytes(64), b"\xff" * 64])
def test_a_damaged_one_is_refused_and_kept(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    assert "is damaged: put it back from a backup, or delete it, and the next start makes a new admin key" in refused(tmp_path)
    assert (tmp_path / FILE).read_bytes() == content


def test_one_that_an_editor_ended_with_a_line_is_the_same(tmp_path):
    made = admin_key(tmp_path, None)
    (tmp_path / FILE).write_text(made.digest + "\n")
    assert admin_key(tmp_path, None).digest == made.digest


def test_a_folder_that_cannot_hold_it_is_told(tmp_path):
    (tmp_path / "file").touch()
    assert "make the folder writable" in refused(tmp_path / "file")


def test_of_processes_that_start_at_once_one_shows_the_key_that_all_take(tmp_path):
    said = raced("sentinel_gateway.stores.admin_key", "msgspec.json.encode(admin_key(folder, None)).decode()", tmp_path)
    keys = [msgspec.json.decode(line, type=AdminKey) for line in said]
    [shown] = [key.fresh for key in keys if key.fresh is not None]
    assert [key.digest for key in keys] == [digest_of(shown)] * RACERS
    assert (tmp_path / FILE).read_text() == digest_of(shown)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
