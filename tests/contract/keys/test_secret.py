"""The gateway's secret: made once, kept for this user, never replaced unasked."""

from pathlib import Path

import pytest

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.stores.secret import gateway_secret
from tests.contract.keys.racing import RACERS, raced

CONFIGURED = "0123456789abcdef" * 4


def refused(folder: Path) -> str:
    with pytest.raises(ConfigurationError) as error:
        gateway_secret(folder, None)
    [(_, sentence)] = error.value.faults
    return sentence


def test_the_first_start_makes_one_for_all_later_ones(tmp_path):
    folder = tmp_path / "new" / "data"
    secret = gateway_secret(folder, None)
    assert len(bytes.fromhex(secret.decode())) == 32
    assert gateway_secret(folder, None) == secret
    assert [path.name for path in folder.iterdir()] == ["secret"]
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert gateway_secret(tmp_path / "other", None) != secret


def test_a_configured_one_is_kept_nowhere(tmp_path):
    assert gateway_secret(tmp_path / "data", CONFIGURED) == CONFIGURED.encode()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_one_that_others_may_have_read_is_refused(tmp_path, mode):
    gateway_secret(tmp_path, None)
    (tmp_path / "secret").chmod(mode)
    assert "other users of this machine can read it: chmod 600" in refused(tmp_path)
    (tmp_path / "secret").chmod(0o600)
    gateway_secret(tmp_path, None)


@pytest.mark.parametrize("content", [b"", b"\n", b"changeme", b"a" * 63, b"g" * 64, b"a" * 65, bytes(64), b"\xff" * 64])
def test_a_damaged_one_is_refused_and_kept(tmp_path, content):
    gateway_secret(tmp_path, None)
    (tmp_path / "secret").write_bytes(content)
    assert "is damaged: put it back from a backup" in refused(tmp_path)
    assert (tmp_path / "secret").read_bytes() == content


def test_a_folder_that_cannot_hold_it_is_told(tmp_path):
    (tmp_path / "file").touch()
    assert "make the folder writable" in refused(tmp_path / "file")
    (tmp_path / "secret").mkdir(mode=0o700)
    assert "can't be kept" in refused(tmp_path)


def test_processes_that_start_at_once_agree(tmp_path):
    said = raced("sentinel_gateway.stores.secret", "gateway_secret(folder, None).decode()", tmp_path)
    assert len(said) == RACERS
    assert set(said) == {(tmp_path / "secret").read_text()}
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
