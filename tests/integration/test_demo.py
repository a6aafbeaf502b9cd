"""The whole way in small: the demo's own story with a shorter training, real broker, real agents, real recordings."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edgepe.compress import Budget, CompressSettings, Progress
from edgepe.demo.network import watch_settings
from edgepe.demo.story import BOXES, Outcome, Refusal, Scored, Settings, tell
from edgepe.demo.training import Version
from edgepe.fleet.shapes import DeviceJson, RolloutJson
from edgepe.target import load_target


class Watcher:
    """Follows a build and says nothing."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Hear that a stage begins."""

    def advance(self, done: int) -> None:
        """Hear how far it is."""


class Diary:
    """Writes down what the story tells."""

    def __init__(self) -> None:
        self.states: dict[str, list[str]] = {}
        self.versions: list[Version] = []
        self.epochs = 0
        self.promised = 0
        self.rollouts: set[str] = set()

    def chapter(self, title: str) -> None:
        """Hear a heading."""

    def training(self, epochs: int) -> Callable[[Progress], None]:
        """Count epochs."""
        self.promised += epochs

        def count(_: Progress) -> None:
            self.epochs += 1

        return count

    def trained(self, version: Version) -> None:
        """Keep a version."""
        self.versions.append(version)

    def building(self) -> contextlib.AbstractContextManager[Watcher]:
        """Follow a build."""
        return contextlib.nullcontext(Watcher())

    def built(self, bundles: Sequence[Scored]) -> None:
        """Hear of the bundles."""

    def page(self, url: str) -> None:
        """Hear of the page."""

    def fleet(self, devices: Sequence[DeviceJson], rollout: RolloutJson | None) -> None:
        """Keep the states that a device was seen in."""
        self.rollouts |= {f"{rollout['version']} {rollout['state']}"} if rollout else set()
        for row in devices:
            seen = self.states.setdefault(row["device"], [])
            now = f"{row['version']} {row['state']}"
            if seen[-1:] != [now]:
                seen.append(now)

    def settled(self) -> None:
        """Hear that a scene ends."""

    def refused(self, refusals: Sequence[Refusal]) -> None:
        """Hear of the refusals."""


def small(version: int) -> CompressSettings:
    """Return the demo's own recipe, cut down to a few epochs and a budget that these can reach."""
    settings = watch_settings(version)
    dense = settings.dense
    assert dense is not None
    gates = dataclasses.replace(settings.gates, growth=0.5, train=dataclasses.replace(settings.gates.train, epochs=6))
    return dataclasses.replace(
        settings,
        budget=Budget(parameters=0.6, round_to=settings.budget.round_to),
        dense=dataclasses.replace(dense, epochs=2),
        gates=gates,
        finetune=dataclasses.replace(settings.finetune, epochs=2),
    )


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Diary, bytes]:
    """Tell the story once; give the outcome, what was shown, and the page as it was served."""
    diary, pages = Diary(), []

    def visit(outcome: Outcome) -> None:
        connection = http.client.HTTPConnection(urlsplit(outcome.page).netloc, timeout=10)
        connection.request("GET", "/")
        pages.append(connection.getresponse().read())
        connection.close()

    settings = Settings(folder=tmp_path_factory.mktemp("demo"), watch_s=1.0, recipe=small)
    outcome = tell(settings, diary, stay=visit)
    return outcome, diary, pages[0]


pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def test_each_version_is_built_for_each_kind_of_device_within_the_contract(
    told: tuple[Outcome, Diary, bytes],
) -> None:
    outcome, _, _ = told
    rows = [row.built for row in outcome.bundles]
    targets = [load_target(alias).name for _, alias in BOXES]
    assert [(row.version, row.target) for row in rows] == [(v, t) for v in ("1", "2") for t in targets]
    assert all(row.verdict.held for row in rows)
    assert all(row.bytes < row.float_bytes for row in rows)
    assert {row.format for row in rows} == {"onnx", "tflite"}


def test_the_network_is_really_smaller(told: tuple[Outcome, Diary, bytes]) -> None:
    _, diary, _ = told
    for version in diary.versions:
        record = version.compressed.record
        assert record.after.parameters <= 0.6 * record.before.parameters
        assert version.score > 2 / 7
    assert diary.epochs == diary.promised


def test_every_device_ends_committed_on_version_two(told: tuple[Outcome, Diary, bytes]) -> None:
    outcome, diary, _ = told
    assert [(row["version"], row["state"], row["online"]) for row in outcome.devices] == [("2", "COMMITTED", True)] * 3
    for row in outcome.devices:
        assert row["p50_us"] is not None
        assert row["p99_us"] is not None
        assert row["p50_us"] <= row["p99_us"]
        assert row["rss_bytes"] is not None
        assert row["rss_bytes"] > 0
        assert row["inferences"] > 0
    assert diary.rollouts >= {"2 RUNNING", "2 COMPLETED", "3 FAILED"}
    assert all(any(state.startswith("1 ") for state in states) for states in diary.states.values())


def test_every_agent_refuses_the_corrupted_bundle_and_goes_on_serving(told: tuple[Outcome, Diary, bytes]) -> None:
    outcome, _, _ = told
    assert {row.device for row in outcome.refused} == {device for device, _ in BOXES}
    for row in outcome.refused:
        assert (row.state, row.code, row.serving) == ("FAILED", "digest_mismatch", "2")
        assert row.inferences > 0


def test_the_page_was_served_and_nothing_is_left_afterwards(told: tuple[Outcome, Diary, bytes]) -> None:
    outcome, _, page = told
    assert b"<html" in page
    place = urlsplit(outcome.page)
    with pytest.raises(ConnectionRefusedError), socket.create_connection((place.hostname, place.port or 0), timeout=5):
        pass
    assert running_under(outcome.bundles[0].built.path.parent.parent) == []


def running_under(folder: Path) -> list[str]:
    """Return the command lines of this machine's processes that name a folder."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if str(folder) in line]
