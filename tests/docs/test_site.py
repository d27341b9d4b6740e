"""The documentation as a site: built strictly, every page in its navigation, nothing in it from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.site import CONFIG, PARTS, ROOT, named_pages

REMOTE = re.compile(
    r"""(?:<(?:script|img|iframe|source)[^>]*?\ssrc|<link[^>]*?\srel="?(?:stylesheet|preload|preconnect|icon)[^>]*?\shref)="?(https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "scripts/site.py", folder]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "site"


def test_every_page_stands_in_the_navigation_or_in_an_index():
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")}
    listed_elsewhere = {page for page in pages if page.startswith("docs/decisions/0")}
    assert pages - listed_elsewhere - named_pages() == set()


def test_each_page_is_there_and_asks_nobody_else(site):
    for page in named_pages():
        html = site / page.removesuffix("README.md").removesuffix(".md") / "index.html"
        assert html.exists(), page
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = file.read_text()
        assert not REMOTE.search(text), file
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", text), file


def test_a_link_that_leads_nowhere_fails(tmp_path):
    """By the same settings, of a page alone: the builder looks for pages and for headings in them."""
    settings = (ROOT / CONFIG).read_text()
    (tmp_path / CONFIG).write_text(re.sub(r"^nav = \[.*?^\]\n", "", settings, flags=re.MULTILINE | re.DOTALL))
    (tmp_path / "pages").mkdir()
    for target in ("no-such-page.md", "README.md#no-such-heading"):
        (tmp_path / "pages" / "README.md").write_text(f"# Start\n\n[nowhere]({target})\n")
        built = build(tmp_path / CONFIG)
        assert built.returncode != 0
        assert "does not exist" in built.stdout + built.stderr
    (tmp_path / "pages" / "README.md").write_text("# Start\n\n[here](README.md#start)\n")
    assert build(tmp_path / CONFIG).returncode == 0


def build(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", config]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_is_laid_out_is_there():
    assert [part for part in PARTS if not (ROOT / part).exists()] == []
