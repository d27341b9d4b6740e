"""Make the documentation a site: `python scripts/site.py FOLDER` builds into FOLDER/site, strictly; `--serve` shows it instead.

A page links to other files of the repository by where they are. So the pages, and what they link to, are laid out in
FOLDER/pages as they are here, and the builder is pointed at that: no link is written twice, none is rewritten.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
CONFIG: Final = "zensical.toml"
PARTS: Final = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
    *("docs", "deploy", "examples", "bench/README.md", "bench/results"),
)
"""The pages, and the folders with files that they link to."""


def lay_out(folder: Path) -> Path:
    """The configuration beside a fresh copy of all pages; returns its path."""
    pages = folder / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for part in PARTS:
        (pages / part).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, pages / part)
    return Path(shutil.copy(ROOT / CONFIG, folder))


def named_pages() -> set[str]:
    """The pages that the navigation names."""
    found: set[str] = set()
    open_: list[Any] = [tomllib.loads((ROOT / CONFIG).read_text())["project"]["nav"]]
    while open_:
        match open_.pop():
            case str() as page:
                found.add(page)
            case dict() as titled:
                open_ += titled.values()
            case several:
                open_ += several
    return found


def main() -> int:
    """Build, or serve; the builder's own exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to work; pages and site in it are replaced")
    parser.add_argument("--serve", action="store_true", help="show it on http://localhost:8000 instead")
    arguments = parser.parse_args()
    config = lay_out(arguments.folder)
    how = ["serve"] if arguments.serve else ["build", "--clean", "--strict"]
    return subprocess.run([sys.executable, "-m", "zensical", *how, "-f", config], check=False).returncode  # noqa: S603 - our own words


if __name__ == "__main__":
    sys.exit(main())
