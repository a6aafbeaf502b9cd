"""The page in a real browser, before the real server and a real store."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import ViewportSize, expect, sync_playwright

from device_agent.wire.messages import State
from edgepe.fleet.up import FleetSettings, running_fleet
from tests.conftest import find_program
from tests.integration.page_fleet import Teller, connected, now_ms, publish, start_rollout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from paho.mqtt.client import Client
    from playwright.sync_api import Browser, Page

    from edgepe.fleet.up import Fleet

pytestmark = pytest.mark.needs("chromium")

DESKTOP = ViewportSize(width=1280, height=860)
PHONE = ViewportSize(width=390, height=844)
WIDTHS = [pytest.param(DESKTOP, id="desktop"), pytest.param(PHONE, id="phone")]
BROWSER_FLAGS = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


class Watched:
    """A page with all that it asked for and complained about."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def open(self, path: str = "/") -> Page:
        """Go to the page and wait for its live connection."""
        self.page.goto(self.address + path)
        expect(self.page.locator("#link")).to_have_attribute("data-link", "live")
        return self.page

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_program("chromium"), args=[*BROWSER_FLAGS])
        yield browser
        browser.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running_fleet(FleetSettings(folder=tmp_path / "fleet", port=0, broker_port=0)) as fleet:
        yield fleet


@pytest.fixture
def client(fleet: Fleet) -> Iterator[Client]:
    with connected(fleet.broker_url) as client:
        yield client


def await_devices(fleet: Fleet, *names: str) -> None:
    """Wait until the fleet knows these devices; their telemetry then has somebody to take it."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        rows = httpx.get(f"{fleet.page_url}api/devices").json()["devices"]
        if {row["device"] for row in rows} >= set(names):
            return
        time.sleep(0.05)
    pytest.fail(f"the fleet does not know {names}")


@pytest.fixture
def devices(fleet: Fleet, client: Client) -> dict[str, Teller]:
    """Two devices that have measured for a while; one of them is gone since."""
    tellers = {
        "pi-1": Teller(client=client, device="pi-1"),
        "gate": Teller(client=client, device="gate", target="jetson-orin"),
    }
    for teller in tellers.values():
        teller.connect()
    await_devices(fleet, *tellers)
    for teller, latency_us in zip(tellers.values(), (600, 1800), strict=True):
        for step in range(6):
            latencies = [latency_us * (1 + 0.01 * n) for n in range(40)]
            teller.measure(latencies, rss_bytes=40 << 20, start_ms=now_ms() - (60 - 10 * step) * 1000)
        teller.report(State.COMMITTED, percent=100)
        teller.tell("update", code="COMMITTED", detail="golden vectors hold")
    tellers["gate"].disconnect()
    return tellers


@pytest.fixture
def watch(browser: Browser, fleet: Fleet) -> Iterator[Callable[..., Watched]]:
    """Open browser windows on the fleet; whatever they see, they ask no other host and complain of nothing."""
    opened: list[Watched] = []

    def open_window(viewport: ViewportSize = DESKTOP, **options: Any) -> Watched:
        context = browser.new_context(viewport=viewport, **options)
        context.set_default_timeout(15_000)
        opened.append(Watched(context.new_page(), fleet.page_url.rstrip("/")))
        return opened[-1]

    yield open_window
    for one in opened:
        one.page.context.close()
    assert [one.complaints for one in opened if one.complaints] == []
    assert {host for one in opened for host in one.hosts} <= {urlsplit(fleet.page_url).netloc}


def row_of(page: Page, device: str) -> Any:
    return page.locator("table.devices tbody tr", has=page.get_by_role("link", name=device, exact=True))


def overflow_px(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize("viewport", WIDTHS)
def test_overview_shows_every_device_with_units_and_fits_the_width(
    watch: Callable[..., Watched], devices: dict[str, Teller], viewport: ViewportSize
) -> None:
    page = watch(viewport).open()
    row = row_of(page, "pi-1")
    for shown in ("raspberry-pi-5", "watch", "COMMITTED", "online", "40.0 MiB"):
        expect(row).to_contain_text(shown)
    expect(row).to_contain_text(re.compile(r"\d{3} µs"))
    expect(row_of(page, "gate")).to_contain_text("offline")
    expect(row_of(page, "gate")).to_contain_text(re.compile(r"\d\.\d\d ms"))
    expect(page.locator("#tiles")).to_contain_text(f"1 / {len(devices)}")
    expect(page.locator("#latency canvas")).to_be_visible()
    expect(page.locator("#latency")).to_contain_text("watch 1, jetson-orin")
    expect(page.locator("#events")).to_contain_text("golden vectors hold")
    assert overflow_px(page) == 0


@pytest.mark.parametrize("viewport", WIDTHS)
def test_update_and_new_device_appear_without_a_reload(
    watch: Callable[..., Watched], devices: dict[str, Teller], client: Client, viewport: ViewportSize
) -> None:
    page = watch(viewport).open()
    page.evaluate("window.sameDocument = true")
    expect(row_of(page, "pi-1")).to_contain_text("COMMITTED")
    devices["pi-1"].report(State.DOWNLOADING, percent=40)
    expect(row_of(page, "pi-1")).to_contain_text("DOWNLOADING 40 %")
    expect(page.locator("#announce")).to_contain_text("pi-1: online, DOWNLOADING")
    Teller(client=client, device="late", target="android-arm64").connect()
    expect(row_of(page, "late")).to_contain_text("android-arm64")
    assert page.evaluate("window.sameDocument") is True


def test_strings_of_a_device_are_shown_as_text_and_never_run(
    watch: Callable[..., Watched], fleet: Fleet, client: Client
) -> None:
    hostile = Teller(client=client, device="bad", target=HOSTILE, hardware=HOSTILE)
    hostile.connect()
    await_devices(fleet, "bad")
    hostile.measure([500.0], rss_bytes=1 << 20, start_ms=now_ms() - 10_000)
    hostile.report(State.FAILED, code=HOSTILE, detail=HOSTILE)
    hostile.tell("refused", code=HOSTILE, detail=HOSTILE)
    watched = watch()
    page = watched.open()
    expect(row_of(page, "bad")).to_contain_text(HOSTILE)
    expect(page.locator("#filter-target option").last).to_have_text(HOSTILE)
    expect(page.locator("#events")).to_contain_text(HOSTILE)
    expect(page.locator("#latency")).to_contain_text(HOSTILE)
    page.get_by_role("link", name="bad", exact=True).first.click()
    expect(page.locator("#device .facts")).to_contain_text(HOSTILE)
    assert page.locator("main img").count() == 0
    expect(page).to_have_title("bad · edgepe fleet")


@pytest.mark.parametrize(("system", "other"), [("light", "dark"), ("dark", "light")])
def test_theme_follows_the_system_until_the_button_decides_and_is_remembered(
    watch: Callable[..., Watched], system: str, other: str
) -> None:
    page = watch(color_scheme=system).open()
    background = "getComputedStyle(document.body).backgroundColor"
    before, button = page.evaluate(background), page.get_by_role("button", name="Dark")
    expect(button).to_have_attribute("aria-pressed", "true" if system == "dark" else "false")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true" if other == "dark" else "false")
    after = page.evaluate(background)
    assert after != before
    page.reload()
    assert page.evaluate(background) == after


def test_keyboard_reaches_a_sort_button_and_sorts(watch: Callable[..., Watched], devices: dict[str, Teller]) -> None:
    page = watch().open()
    expect(page.locator("table.devices tbody tr")).to_have_count(len(devices))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the fleet")).to_be_focused()
    heading = page.locator("table.devices").get_by_role("columnheader", name="p50")
    heading.get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(heading).to_have_attribute("aria-sort", "descending")
    expect(page.locator("table.devices tbody th")).to_have_text(["gate", "pi-1"])
    page.keyboard.press("Enter")
    expect(heading).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("table.devices tbody th")).to_have_text(["pi-1", "gate"])


def test_filter_goes_into_the_address_and_comes_back_from_it(
    watch: Callable[..., Watched], devices: dict[str, Teller]
) -> None:
    page = watch().open()
    expect(page.locator("#device-count")).to_have_text(str(len(devices)))
    page.get_by_label("Filter devices by text").fill("offline")
    expect(page.locator("#device-count")).to_have_text("1 of 2")
    page.get_by_label("Filter devices by target").select_option("jetson-orin")
    shared = page.evaluate("location.hash")
    other = watch().open("/" + shared)
    expect(other.locator("#device-count")).to_have_text("1 of 2")
    expect(other.get_by_label("Filter devices by text")).to_have_value("offline")
    expect(other.get_by_label("Filter devices by target")).to_have_value("jetson-orin")


@pytest.mark.parametrize("viewport", WIDTHS)
def test_address_of_a_device_opens_its_view(
    watch: Callable[..., Watched], devices: dict[str, Teller], viewport: ViewportSize
) -> None:
    page = watch(viewport).open("/#/device/gate")
    view = page.locator("#device")
    expect(view.get_by_role("heading", level=1)).to_have_text("gate")
    for shown in ("Serves watch 1 on jetson-orin", "onnxruntime 1.31.1", "8.00 GiB", "51.2 °C", "golden vectors hold"):
        expect(view).to_contain_text(shown)
    expect(view.locator("canvas").first).to_be_visible()
    assert overflow_px(page) == 0
    devices["gate"].connect()
    expect(view.locator(".device-head")).to_contain_text("online")
    page.get_by_role("link", name="All devices").click()
    expect(row_of(page, "gate")).to_be_visible()


def test_empty_fleet_says_how_to_begin(watch: Callable[..., Watched]) -> None:
    page = watch(PHONE).open()
    expect(page.locator("#devices")).to_contain_text("No device has reported yet")
    expect(page.locator("#devices code")).to_have_text("edgepe-agent run --config agent.toml")
    expect(page.locator("#rollouts code")).to_have_text("edgepe rollout start NAME VERSION")
    assert overflow_px(page) == 0


def test_unknown_device_is_said_to_be_unknown(watch: Callable[..., Watched]) -> None:
    page = watch().open("/#/device/nobody")
    expect(page.locator("#device")).to_contain_text("The fleet knows no device of this name")


@pytest.mark.parametrize("viewport", WIDTHS)
def test_rollout_is_seen_live_to_the_reason_why_it_turned_back(
    watch: Callable[..., Watched], fleet: Fleet, client: Client, tmp_path: Path, viewport: ViewportSize
) -> None:
    first, second = (Teller(client=client, device=device) for device in ("pi-1", "pi-2"))
    for teller in (first, second):
        teller.connect()
        teller.report(State.COMMITTED)
    await_devices(fleet, "pi-1", "pi-2")
    for version in ("1", "2"):
        publish(fleet, tmp_path / version, version=version, targets=(first.target,))
    page = watch(viewport).open()
    panel = page.locator("#rollouts")
    expect(panel).to_contain_text("Nothing has been rolled out yet")
    start_rollout(fleet, version="2", waves="1,100%")
    expect(panel).to_contain_text("Wave 1 of 2")
    expect(panel.locator("li", has_text="pi-1")).to_contain_text("ASKED")
    expect(panel.locator("li", has_text="pi-2")).to_contain_text("WAITING")
    first.rev += 1
    first.report(State.DOWNLOADING, percent=40)
    expect(panel.locator("li", has_text="pi-1")).to_contain_text("40 %")
    first.version = "2"
    first.report(State.COMMITTED, percent=100)
    expect(panel.locator("li", has_text="pi-1")).to_contain_text("COMMITTED")
    expect(panel.locator("li", has_text="pi-2")).to_contain_text("ASKED")
    second.rev += 1
    second.report(State.ROLLED_BACK, code="golden_mismatch", detail="3 of 16 golden vectors disagree")
    expect(panel).to_contain_text("pi-2: 3 of 16 golden vectors disagree")
    expect(panel.locator("li", has_text="pi-1")).to_contain_text("REVERTING")
    expect(page.locator("#tiles")).to_contain_text("REVERTING")
    assert overflow_px(page) == 0
