"""docs/deploying.md says what the files do; they themselves are run by tests/deploy.

Its commands change a machine, or need an account at Fly.io: those that make a service's files, and those that bring nginx its
certificate, are done here in a folder, in the page's order; of the others it is checked what they name.
"""

import contextlib
import http.client
import os
import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from sentinel_gateway.settings.load import load
from tests.deploy.dockerfile import steps
from tests.deploy.fronts import CADDY, CERTIFICATE, NAME, NGINX, Front, nginx_site
from tests.deploy.test_fly import FILE
from tests.deploy.test_systemd import SETTINGS
from tests.server.nginx import MAIN, nginx_with
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploying.md").read_text()
BLOCKS = [block.replace("\\\n", "") for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)]
COMMANDS = [line for block in BLOCKS for line in block.strip().splitlines()]
ETC = "/etc/sentinel"
SOMEBODY = 65534
"""Debian's `nobody`: any user and group but root would do."""
DEBIANS = """
server {{
    listen {host}:{plain} default_server;
    root {www};
    server_name _;
    location / {{ try_files $uri $uri/ =404; }}
}}
include conf.d/*.conf;
"""
"""What /etc/nginx has as Debian installs it, of what matters here."""
CHALLENGE = "/.well-known/acme-challenge/token"
UNIT = (ROOT / "deploy" / "systemd" / "sentinel.service").read_text()


def test_every_file_that_is_installed_is_there():
    files = [word for line in COMMANDS for word in shlex.split(line) if word.startswith("deploy/")]
    assert len(files) == 3
    assert [name for name in files if not (ROOT / name).is_file()] == []


def test_the_service_is_where_the_page_puts_it():
    assert "ExecStart=/opt/sentinel/bin/sentinel serve" in UNIT
    assert "EnvironmentFile=-/etc/sentinel/environment" in UNIT
    assert "SENTINEL_CONFIG=/etc/sentinel/sentinel.yaml" in UNIT
    assert "SENTINEL_DATA_DIR=/var/lib/sentinel" in UNIT


def test_the_service_may_read_what_the_commands_leave_and_write_nothing_of_it(tmp_path, absent):
    if os.geteuid() != 0:
        absent("root, who alone can be somebody else")
    load({"HOME": "/"}, cwd=tmp_path)
    made = [line for line in COMMANDS if line.startswith("install ") and ETC in line]
    assert [line.split()[-1] for line in made] == [ETC, f"{ETC}/sentinel.yaml", f"{ETC}/environment"]
    tmp_path.chmod(0o711)
    for line in made:
        subprocess.run(shlex.split(line.replace(ETC, "etc").replace("-g sentinel", f"-g {SOMEBODY}")), cwd=tmp_path, check=True)
    with contextlib.chdir(tmp_path):  # the folders above are root's alone, so the paths are relative
        os.setegid(SOMEBODY)
        os.seteuid(SOMEBODY)
        try:
            loaded = load({"HOME": "/"}, cwd=Path(), config=Path("etc/sentinel.yaml"))
            writable = [path for path in ("etc", "etc/sentinel.yaml") if os.access(path, os.W_OK, effective_ids=True)]
            secrets = os.access("etc/environment", os.R_OK, effective_ids=True)
        finally:
            os.seteuid(0)
            os.setegid(0)
    assert (loaded.files, writable, secrets) == (("etc/sentinel.yaml",), [], False)


def test_the_user_is_there_before_files_are_its_groups(tmp_path, absent):
    program = shutil.which("systemd-sysusers") or absent("systemd-sysusers (make test-deps installs it)")
    order = [line.split()[0] for line in COMMANDS if line == "systemd-sysusers" or "-g sentinel" in line]
    assert order == ["systemd-sysusers", "install", "install"]
    (tmp_path / "etc" / "sysusers.d").mkdir(parents=True)
    shutil.copy(ROOT / "deploy" / "systemd" / "sentinel.sysusers", tmp_path / "etc" / "sysusers.d" / "sentinel.conf")
    assert subprocess.run([program, f"--root={tmp_path}"], check=False).returncode == 0
    for file in ("passwd", "group"):
        assert (tmp_path / "etc" / file).read_text().startswith("sentinel:")


def test_the_shell_has_what_the_service_has():
    (line,) = [line for line in COMMANDS if line.startswith("systemd-run")]
    words = shlex.split(line)
    properties = dict(word.split("=", 1) for flag, word in pairwise(words) if flag == "-p")
    assert properties.items() <= dict(SETTINGS).items()
    assert properties.keys() == {"User", "UMask", "WorkingDirectory", "EnvironmentFile"}
    variables = {word for flag, word in pairwise(words) if flag == "-E"}
    assert {value for name, value in SETTINGS if name == "Environment"} == {v for v in variables if not v.startswith("PATH=")}
    assert "PATH=/opt/sentinel/bin:/usr/bin:/bin" in variables


def test_the_settings_of_the_page_are_a_configuration(tmp_path):
    (written,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "sentinel.yaml"
    file.touch(mode=0o600)
    file.write_text(written)
    settings = load({"HOME": str(tmp_path)}, cwd=tmp_path, config=file).settings
    assert settings.server.allowed_hosts == ("ai.example.com",)
    assert settings.keys.required


def test_what_it_says_of_nginx_and_caddy_stands_there():
    nginx, caddy = NGINX.read_text(), CADDY.read_text()
    assert "rate=10r/s" in nginx
    assert "burst=40" in nginx
    assert "TLSv1.2 TLSv1.3" in nginx
    for text in (nginx, caddy):
        assert "127.0.0.1/32" in text
        assert "10.0.0.0/8" in text


def challenged(front: Front) -> bytes:
    """What certbot's authority gets."""
    connection = http.client.HTTPConnection(front.host, front.plain, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", CHALLENGE, headers={"host": NAME})
        return connection.getresponse().read()


def test_the_steps_to_a_certificate_do_in_their_order(tmp_path, absent):
    if shutil.which("nginx") is None:
        absent("nginx (make test-deps installs it)")
    section = PAGE.partition("## Behind nginx")[2].partition("\n## ")[0]
    certbot, install, _, start = [line for line in COMMANDS if line in section]
    asked = shlex.split(certbot)
    webroot, hook = (asked[asked.index(flag) + 1] for flag in ("-w", "--deploy-hook"))
    assert start.endswith(hook), "nginx would keep the old certificate"
    assert install.split()[-1] == "/etc/nginx/conf.d/sentinel.conf"
    www, live, conf = (tmp_path / name for name in ("www", "live", "conf.d"))
    conf.mkdir()
    (www / CHALLENGE[1:]).parent.mkdir(parents=True)
    (www / CHALLENGE[1:]).write_bytes(b"proof")
    front = Front(free_port(), free_port())
    whole = MAIN.format(site=DEBIANS.format(host=front.host, plain=front.plain, www=www))

    with nginx_with(tmp_path, whole, front.plain):
        assert challenged(front) == b"proof", "there is no first certificate"
    paths = {f"/etc/letsencrypt/live/{NAME}/{name}": str(live / name) for name in ("fullchain.pem", "privkey.pem")}
    site = nginx_site(front, ["127.0.0.1:8080"], paths | {f"root {webroot};": f"root {www};"})
    (conf / "sentinel.conf").write_text(site)
    assert "fullchain.pem" in nginx_test(tmp_path).stderr, "the order would not matter"
    live.mkdir()
    for path in paths.values():
        shutil.copy(CERTIFICATE, path)
    assert nginx_test(tmp_path).returncode == 0, nginx_test(tmp_path).stderr
    with nginx_with(tmp_path, whole, front.port):
        assert challenged(front) == b"proof", "a certificate would not be renewed"


def nginx_test(folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["nginx", "-t", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_flys_commands_make_what_the_file_names():
    told = "\n".join(line for line in COMMANDS if line.startswith("fly"))
    assert f"volumes create {FILE['mounts'][0]['source']} " in told
    (secrets,) = [shlex.split(line.replace("$(", "").replace(")", "")) for line in COMMANDS if "secrets set" in line]
    names = [word.partition("=")[0] for word in secrets if "=" in word]
    load(dict.fromkeys(names, "8d1b7a40f3c95e2266a0d4b97c18ef53") | {"HOME": "/h"}, cwd=Path("/nowhere"))
    assert f"{FILE['vm'][0]['memory_mb']} MB" in PAGE
    (console,) = [line for line in COMMANDS if line.startswith("fly ssh console")]
    (user,) = [step.text for step in steps(ROOT / "Dockerfile") if step.word == "USER"]
    assert "--reuid={} --regid={}".format(*user.split(":")) in console, "what root makes, the gateway could not open"


@pytest.mark.parametrize(
    "target", sorted({word for line in COMMANDS for word in re.findall(r"make ([a-z-]+)", line)} | {"sbom", "audit"})
)
def test_its_targets_are_there(target):
    assert f"`make {target}`" in PAGE or f"make {target}" in PAGE
    assert subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=False).returncode == 0
