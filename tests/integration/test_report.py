"""The report of a real build, and one full of hostile strings, in a real browser."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import pytest
from playwright.sync_api import ViewportSize, sync_playwright

from edgepe.bundle import read_evidence
from edgepe.bundle.findings import read_findings
from edgepe.bundle.report import report_path, write_report
from edgepe.pipeline import Built, Request, build
from edgepe.target import load_target
from tests.conftest import find_program
from tests.report_samples import HOSTILE, evidence, manifest
from tests.small_graphs import cnn, feeds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.needs("chromium")]

DESKTOP, PHONE = ViewportSize(width=1280, height=860), ViewportSize(width=390, height=844)
SCREENS = [
    pytest.param(viewport, scheme, id=f"{viewport['width']} {scheme}")
    for viewport in (DESKTOP, PHONE)
    for scheme in ("light", "dark")
]
TARGETS = ("generic", "android")
MOST_BYTES = 200_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_program("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, ...]:
    """Build the small CNN for a target that is measured here and for one whose files have other layouts."""
    folder = tmp_path_factory.mktemp("report")
    model = cnn()
    ir.save(model, folder / "net.onnx")
    samples = feeds(model, samples=40)["x"]
    np.savez(folder / "data.npz", x=samples)
    request = Request(
        source=str(folder / "net.onnx"),
        targets=tuple(map(load_target, TARGETS)),
        calibration=folder / "data.npz",
        out=folder / "dist",
        max_drop=50,
    )
    return build(request)


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """A report of very many layers with long and hostile names."""
    nodes = tuple(f"/backbone/stage{n}/block/{'very_long_name' * 6}/Conv_{n}" for n in range(80))
    facts = evidence(nodes=(HOSTILE, *nodes), measured=True)
    facts["why"] = HOSTILE
    return write_report(tmp_path / "crowded.edge", manifest(nodes=(HOSTILE, *nodes)), facts)


class Opened:
    """A page with everything that it asked for and complained about."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page: Page = browser.new_context(**options).new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())
        self.address = path.as_uri()

    def overflow_px(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def close(self) -> None:
        """Check that it kept to itself, and close it."""
        self.page.context.close()
        assert self.complaints == []
        assert {url for url in self.requests if not url.startswith("data:")} == {self.address}


@pytest.mark.parametrize(("viewport", "scheme"), SCREENS)
def test_a_report_of_a_real_build_fits_the_screen_and_asks_for_nothing(
    browser: Browser, built: tuple[Built, ...], viewport: ViewportSize, scheme: str
) -> None:
    for row in built:
        opened = Opened(browser, report_path(row.path), viewport=viewport, color_scheme=scheme)
        assert opened.overflow_px() == 0
        assert opened.page.locator("#layers circle").count() >= 7
        assert opened.page.locator("#operators tbody tr").count() == 11
        opened.close()


@pytest.mark.parametrize(("viewport", "scheme"), SCREENS)
def test_a_crowded_report_fits_the_screen_and_runs_nothing(
    browser: Browser, crowded: Path, viewport: ViewportSize, scheme: str
) -> None:
    opened = Opened(browser, crowded, viewport=viewport, color_scheme=scheme)
    assert opened.overflow_px() == 0
    for part in opened.page.locator("summary").all():
        part.click()
    assert opened.page.locator("details:not([open])").count() == 0
    assert opened.overflow_px() == 0
    assert opened.page.title() == "net 3 for raspberry-pi-5"
    assert opened.page.locator("script, img").count() == 0
    assert opened.page.locator("#operators tbody tr").first.locator("code").first.inner_text() == HOSTILE
    opened.close()


def test_the_dark_page_is_dark_and_paper_is_light(browser: Browser, crowded: Path) -> None:
    opened = Opened(browser, crowded, color_scheme="dark")
    ink = "getComputedStyle(document.body).color"
    on_screen = opened.page.evaluate(ink)
    opened.page.emulate_media(media="print")
    on_paper = opened.page.evaluate(ink)
    assert (on_screen, on_paper) == ("rgb(229, 234, 240)", "rgb(23, 32, 43)")
    assert opened.page.locator("details:not([open])").count() == 2
    assert opened.page.locator("#operators tbody tr").last.is_visible()  # what is folded on a screen is whole on paper
    assert opened.page.pdf(format="A4").startswith(b"%PDF")
    opened.close()


def test_the_report_is_small_and_says_what_the_build_says(built: tuple[Built, ...]) -> None:
    for row in built:
        written = report_path(row.path).read_text(encoding="utf8")
        assert len(written) < MOST_BYTES
        assert f"{row.bytes:,}" in written
        assert f"{row.float_bytes:,}" in written
        assert escape(row.scored_on) in written
        assert escape(row.why) in written


def test_the_evidence_of_a_real_build_reads_back(built: tuple[Built, ...]) -> None:
    measured, predicted = (read_findings(read_evidence(row.path)) for row in built)
    assert measured.timing.measured
    assert len(measured.timing.times_us) == 200
    assert not predicted.timing.measured
    assert predicted.timing.times_us == ()
    for findings in (measured, predicted):
        assert findings.layers is not None
        assert findings.layers.error == ""
        assert findings.layers.samples == 40
        assert len(findings.layers.rows) >= 7
        assert findings.source == "net.onnx"
        assert dict(findings.versions)["numpy"] == np.__version__
