"""Find the Chromium in which the page is tested, or bring one, and print its path.

Looked for in this order: $CHROMIUM, the names under which systems install it, Playwright's own download. Where there is
none, Debian's package is installed (root only), else Playwright's build is downloaded.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
DOWNLOAD_LIMIT_S = 600


def find_chromium() -> Path | None:
    """Return the path of a Chromium that is on this machine, or None.

    Call it before Playwright is started: Playwright is asked last, and does not run twice in one thread.

    Raises:
        ValueError: $CHROMIUM names something that cannot be run.
    """
    named = os.environ.get("CHROMIUM")
    if named:
        if found := shutil.which(named):
            return Path(found)
        raise ValueError(f"CHROMIUM must name a browser that can be run, got CHROMIUM={named}")
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found)
    with sync_playwright() as playwright:
        downloaded = Path(playwright.chromium.executable_path)
    return downloaded if downloaded.is_file() else None


def bring_chromium() -> Path | None:
    """Install Debian's Chromium as root, else download Playwright's; return its path, or None if neither worked."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        if _run("apt-get", "update"):
            _run("apt-get", "install", "--yes", "--no-install-recommends", "chromium")
        if found := find_chromium():
            return found
    _run(sys.executable, "-m", "playwright", "install", "chromium")
    return find_chromium()


def _run(*command: str) -> bool:
    """Run a command with its output on stderr, so that stdout holds the path alone; return whether it succeeded."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=environment, timeout=DOWNLOAD_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main() -> None:
    """Print the path of Chromium, or end with one sentence."""
    try:
        chromium = find_chromium() or bring_chromium()
    except ValueError as error:
        sys.exit(str(error))
    if chromium is None:
        sys.exit(
            "The page's tests need Chromium and none could be found or installed: "
            "install it (Debian: apt-get install chromium), or name one with CHROMIUM=/path/to/chromium."
        )
    sys.stdout.write(f"{chromium}\n")


if __name__ == "__main__":
    main()
