"""A browser that is on the machine prints the page; nothing is fetched for it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from shutil import which

from simgpu.errors import InputError
from simgpu.render.files import written_whole

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "microsoft-edge",
)
"""Commands that print a page as PDF without a window."""
MOST_SECONDS = 300


def browser() -> str | None:
    """The path of a browser that can print, or None."""
    return next((found for name in BROWSERS if (found := which(name))), None)


def required() -> str:
    """The path of a browser that can print. Raises `InputError` where there is none."""
    found = browser()
    if found is None:
        raise InputError(
            f"no browser is found to print the page with; expected one of {', '.join(BROWSERS[:3])} on the path, or "
            "open the page and print it to a file", key="--pdf",
        )  # fmt: skip
    return found


def print_pdf(html: Path, file: Path) -> None:
    """Print a page into a PDF. Raises `InputError` where no browser does."""
    command = required()
    with tempfile.TemporaryDirectory(prefix="simgpu-") as folder:
        made = Path(folder) / "page.pdf"
        words = [
            command, "--headless", "--disable-gpu", "--no-sandbox", "--no-pdf-header-footer", "--no-first-run",
            f"--user-data-dir={folder}/profile", f"--print-to-pdf={made}", html.resolve().as_uri(),
        ]  # fmt: skip
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=MOST_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"{command} did not print the page ({type(error).__name__})", key="--pdf") from None
        if not made.is_file():
            raise InputError(f"{command} did not print the page (it ended with {done.returncode})", key="--pdf")
        with written_whole(file, binary=True) as stream:
            stream.write(made.read_bytes())
