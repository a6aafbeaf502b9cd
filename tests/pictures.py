"""Make the README's pictures from a real run of the demo: ``python -m tests.pictures`` (wants Chromium)."""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console

from edgepe.cli.show import Progress
from edgepe.demo.show import TerminalShow, build_table
from edgepe.demo.story import Outcome, Settings, tell
from tests.conftest import ROOT, find_program

PICTURES = ROOT / ".github" / "pictures"
WIDTH = 150
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]


def draw_table(outcome: Outcome) -> None:
    """Draw the table of version 1's builds."""
    with Path("/dev/null").open("w", encoding="utf8") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere)
        console.print(build_table([row for row in outcome.bundles if row.built.version == "1"]))
        console.save_svg(str(PICTURES / "build.svg"), title="edgepe build")


def photograph_page(outcome: Outcome) -> None:
    """Take a picture of the page while the fleet runs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_program("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, device_scale_factor=1)
        page.goto(outcome.page)
        page.wait_for_timeout(4000)
        page.screenshot(path=str(PICTURES / "page.png"), full_page=True)
        browser.close()


def main() -> None:
    """Tell the story once and keep two pictures of it."""
    PICTURES.mkdir(parents=True, exist_ok=True)

    def stay(outcome: Outcome) -> None:
        draw_table(outcome)
        time.sleep(45)  # some history for the charts
        photograph_page(outcome)

    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(TerminalShow(Console(stderr=True), building=Progress)) as show,
    ):
        tell(Settings(folder=Path(folder), watch_s=60.0), show, stay=stay)


if __name__ == "__main__":
    main()
