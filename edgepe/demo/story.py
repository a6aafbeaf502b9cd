"""The story of ``edgepe demo``, top to bottom: train, build, run, watch, update, refuse.

Rules kept here:
1. Every step is a call that a user could make: ``compress``, ``build``, ``publish``, a fleet, agents, roll-outs.
2. Everything lives in one folder and on loopback; whatever was started is stopped on every way out.
3. The test people are never learned from: they score the result, and the agents replay their recordings.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgepe.bundle.pack import read_bundle, write_bundle
from edgepe.demo.agents import Box, install, running_agents
from edgepe.demo.network import watch_settings
from edgepe.demo.training import MODEL, Files, Version, epochs_of, train_version, write_files
from edgepe.demo.watch import load_watch
from edgepe.errors import FleetError, VerifyError
from edgepe.fleet.client import FleetClient
from edgepe.fleet.up import Fleet, FleetSettings, running_fleet
from edgepe.pipeline import Built, Request, build
from edgepe.stages.check import check_bundle
from edgepe.target import load_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from edgepe.compress import CompressSettings, Progress
    from edgepe.demo.watch import WatchData
    from edgepe.fleet.shapes import DeviceJson, EventJson, RolloutJson
    from edgepe.pipeline import Watch

REFUSALS = frozenset({"update_failed", "update_rejected", "update_rolled_back"})
DEVICE_KEYS = (
    "device",
    "target",
    "version",
    "state",
    "p50_us",
    "p99_us",
    "rss_bytes",
    "inferences",
)

__all__ = ["BOXES", "Outcome", "Refusal", "Scored", "Settings", "Show", "tell"]

BOXES = (("pi-workbench", "raspberry-pi"), ("jetson-gate", "jetson"), ("phone-field", "android"))
VERSIONS = ("1", "2")
CORRUPT = "3"
MAX_DROP = 2.0
RATE_HZ = 20.0
LOOK_EVERY_S = 0.5
READY_WITHIN_S = 60.0
ROLLOUT_WITHIN_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the demo is told.

    Attributes:
        folder: Where everything is written.
        seed: Of the training.
        watch_s: Seconds of watching before the update, and again after it.
        port: Of the page; 0 takes any free one.
        recipe: Gives how each version is trained.
    """

    folder: Path
    seed: int = 0
    watch_s: float = 8.0
    port: int = 0
    recipe: Callable[[int], CompressSettings] = watch_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A bundle and what it scores on the test people, by the runtime that scored it in the build.

    Attributes:
        built: The bundle.
        float_test_score: What the compressed float network scores on the same windows, 0 to 1.
        test_score: What the artifact scores, 0 to 1.
    """

    built: Built
    float_test_score: float
    test_score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One agent that refused the corrupted bundle, and what it went on serving.

    Attributes:
        device: The agent.
        version: The version it refused.
        state: Where its update ended.
        code: Why.
        serving: The version that it serves.
        inferences: How many inferences it has made since it refused.
    """

    device: str
    version: str
    state: str
    code: str
    serving: str
    inferences: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the demo came to.

    Attributes:
        bundles: One row per version and target.
        devices: The fleet's last rows.
        refused: The refusals of the corrupted bundle.
        page: Address of the page.
    """

    bundles: tuple[Scored, ...]
    devices: tuple[DeviceJson, ...]
    refused: tuple[Refusal, ...]
    page: str

    def to_json(self) -> dict[str, object]:
        """Return what ``edgepe demo --json`` prints."""
        return {
            "bundles": [
                {**row.built.to_json(), "float_test_score": row.float_test_score, "test_score": row.test_score}
                for row in self.bundles
            ],
            "devices": [{key: value for key, value in row.items() if key in DEVICE_KEYS} for row in self.devices],
            "refused": [dataclasses.asdict(row) for row in self.refused],
            "page": self.page,
        }


class Show(Protocol):
    """Told how the story goes on; decides nothing."""

    def chapter(self, title: str) -> None:
        """Note that a chapter begins."""

    def training(self, epochs: int) -> Callable[[Progress], None]:
        """Return what is called at the end of each of so many epochs."""

    def trained(self, version: Version) -> None:
        """Note that a version is trained."""

    def building(self) -> AbstractContextManager[Watch]:
        """Return what follows a build."""

    def built(self, bundles: Sequence[Scored]) -> None:
        """Note the bundles of one version."""

    def page(self, url: str) -> None:
        """Note where the page is."""

    def fleet(self, devices: Sequence[DeviceJson], rollout: RolloutJson | None) -> None:
        """Note how the fleet is now."""

    def settled(self) -> None:
        """Note that what follows is another scene of the fleet."""

    def refused(self, refusals: Sequence[Refusal]) -> None:
        """Note that every agent refused the corrupted bundle."""


def tell(settings: Settings, show: Show, *, stay: Callable[[Outcome], None] = lambda _: None) -> Outcome:
    """Tell the whole story.

    Args:
        settings: How.
        show: Told how it goes on.
        stay: Called with the outcome while everything still runs; it ends when it returns.

    Raises:
        EdgepeError: A step failed; what ran has been stopped.
    """
    show.chapter("Data: seven exercises, 50 Hz accelerometer and gyroscope of a watch; the people are split")
    data = load_watch()
    files = write_files(data, settings.folder / "data")
    bundles = tuple(row for version in VERSIONS for row in _make(version, data, files, settings, show))
    show.chapter("Fleet: broker, repository, collector and page on loopback; three agents replay unseen people")
    with running_fleet(FleetSettings(folder=settings.folder / "fleet", port=settings.port, broker_port=0)) as fleet:
        for row in bundles:
            fleet.repository.publish(row.built.path)
        boxes = _install_boxes(bundles, fleet, files, settings)
        show.page(fleet.page_url)
        with running_agents(boxes):
            scene = _Scene(FleetClient(fleet.address), show)
            scene.wait_until_serving(len(boxes))
            scene.watch(settings.watch_s)
            show.settled()
            show.chapter("Update: version 2, device by device")
            scene.roll_out("2", waves="1,2,3")
            scene.watch(settings.watch_s)
            show.settled()
            show.chapter("Refusal: version 3 was damaged on its way; every agent must say no and go on serving")
            _publish_corrupted(bundles, fleet, settings.folder)
            refusals = scene.refuse(CORRUPT)
            show.refused(refusals)
            outcome = Outcome(bundles=bundles, devices=scene.devices(), refused=refusals, page=fleet.page_url)
            stay(outcome)
    return outcome


def _make(version: str, data: WatchData, files: Files, settings: Settings, show: Show) -> tuple[Scored, ...]:
    """Train a version, build it for every kind of device, score it on the test people."""
    show.chapter(f"Version {version}: a distribution over channels, pruned by its posterior, rebuilt smaller")
    recipe = settings.recipe(int(version))
    recipe = dataclasses.replace(recipe, seed=recipe.seed + settings.seed)
    report = show.training(epochs_of(recipe))
    trained = train_version(version, data, files.scale, settings.folder, settings=recipe, report=report)
    show.trained(trained)
    request = Request(
        source=str(trained.compressed.out),
        targets=tuple(load_target(target) for _, target in BOXES),
        calibration=files.calibration,
        evaluation=files.validation,
        signature=files.signature,
        max_drop=MAX_DROP,
        name=MODEL,
        version=version,
        out=settings.folder / "bundles",
    )
    with show.building() as watch:
        built = build(request, watch=watch)
    rows = tuple(
        Scored(built=row, float_test_score=trained.score, test_score=_score(row.path, files.test)) for row in built
    )
    show.built(rows)
    return rows


def _score(bundle: Path, data: Path) -> float:
    """Return what a bundle scores on labelled data, on its runtime or the stand-in."""
    score = check_bundle(bundle, data).score
    if score is None:
        raise VerifyError(f"{bundle.name} could not be scored", expected="labels", got=str(data))
    return score


def _install_boxes(bundles: Sequence[Scored], fleet: Fleet, files: Files, settings: Settings) -> tuple[Box, ...]:
    """Put version 1 on three boxes, each with the bundle of its target."""
    first = {row.built.target: row.built.path for row in bundles if row.built.version == VERSIONS[0]}
    boxes = []
    for device, alias in BOXES:
        target = load_target(alias).name
        box = Box(device=device, target=target, folder=settings.folder / "boxes" / device)
        box.write_config(
            broker=fleet.broker_url,
            repository=fleet.repository_url,
            keys=(fleet.address.key,),
            recording=files.test,
            rate_hz=RATE_HZ,
        )
        install(box, first[target])
        boxes.append(box)
    return tuple(boxes)


def _publish_corrupted(bundles: Sequence[Scored], fleet: Fleet, folder: Path) -> None:
    """Publish version 3, then damage its bytes in the repository, as a bad disk or a thief would."""
    for row in bundles:
        if row.built.version != VERSIONS[-1]:
            continue
        good = read_bundle(row.built.path)
        manifest = dataclasses.replace(good.manifest, version=CORRUPT)
        path = folder / "bundles" / f"{MODEL}-{CORRUPT}-{row.built.target}.edge"
        write_bundle(path, manifest, {entry.name: good.read(entry.name) for entry in manifest.files})
        published = fleet.repository.folder / fleet.repository.publish(path).path
        damaged = bytearray(published.read_bytes())
        damaged[len(damaged) // 2] ^= 0xFF
        published.write_bytes(damaged)


class _Scene:
    """Looks at the fleet until something holds, and shows every look."""

    def __init__(self, client: FleetClient, show: Show) -> None:
        self._client = client
        self._show = show

    def devices(self) -> tuple[DeviceJson, ...]:
        """Return the fleet's rows, in the order of the boxes."""
        order = {device: place for place, (device, _) in enumerate(BOXES)}
        return tuple(sorted(self._client.devices(), key=lambda row: order.get(row["device"], len(order))))

    def wait_until_serving(self, count: int) -> None:
        """Look until so many devices are online and have made inferences."""
        self._look_until(
            lambda rows: sum(row["online"] and row["inferences"] > 0 for row in rows) >= count,
            within_s=READY_WITHIN_S,
            what=f"{count} agents online and serving",
        )

    def watch(self, seconds: float) -> None:
        """Look for some time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._show.fleet(self.devices(), None)
            time.sleep(LOOK_EVERY_S)

    def roll_out(self, version: str, *, waves: str) -> None:
        """Roll a version out and look until every device has it.

        Raises:
            FleetError: The roll-out was stopped and reverted.
        """
        ended = self._rolled_out(version, waves)
        if ended["state"] != "COMPLETED":
            raise FleetError(
                f"the roll-out of version {version} was stopped",
                expected="every device COMMITTED",
                got=ended["reason"],
                next_step="look at the agents' logs, boxes/*/agent.log",
            )
        self._look_until(
            lambda rows: all(row["version"] == version and row["state"] == "COMMITTED" for row in rows),
            within_s=READY_WITHIN_S,
            what=f"version {version} COMMITTED everywhere",
        )

    def refuse(self, version: str) -> tuple[Refusal, ...]:
        """Roll the corrupted version out to each device; return what its agent said and what it serves since.

        Raises:
            FleetError: An agent took it, or stopped serving.
        """
        before = {row["device"]: row["version"] for row in self.devices()}
        said: dict[str, EventJson] = {}
        for device in before:
            ended = self._rolled_out(version, "100%", group=f"device={device}")
            said |= self._refusals(since_ms=ended["started_ms"])
        if said.keys() < before.keys():
            raise FleetError(
                f"version {version} was not refused by every agent",
                expected=", ".join(before),
                got=", ".join(said) or "none",
                next_step="look at the agents' logs, boxes/*/agent.log",
            )
        made = {row["device"]: row["inferences"] for row in self.devices()}
        self._look_until(
            lambda rows: all(
                row["version"] == before[row["device"]] and row["inferences"] > made[row["device"]] for row in rows
            ),
            within_s=READY_WITHIN_S,
            what="the old model serving on every device",
        )
        return tuple(
            Refusal(
                device=row["device"],
                version=version,
                state=said[row["device"]]["kind"].removeprefix("update_").upper(),
                code=said[row["device"]]["code"],
                serving=row["version"],
                inferences=row["inferences"] - made[row["device"]],
            )
            for row in self.devices()
        )

    def _refusals(self, *, since_ms: int) -> dict[str, EventJson]:
        """Return the agents' own words on the updates that they ended without taking, by device."""
        return {
            row["device"]: row
            for row in self._client.events()
            if row["kind"] in REFUSALS and row["time_ms"] >= since_ms
        }

    def _rolled_out(self, version: str, waves: str, *, group: str = "") -> RolloutJson:
        started = self._client.start_rollout(MODEL, version, waves=waves, group=group)
        end = time.monotonic() + ROLLOUT_WITHIN_S
        while time.monotonic() < end:
            now = self._client.rollout(started["id"])
            self._show.fleet(self.devices(), now)
            if now["state"] not in {"RUNNING", "REVERTING"}:
                return now
            time.sleep(LOOK_EVERY_S)
        raise FleetError(f"the roll-out of version {version} did not end", got=f"{ROLLOUT_WITHIN_S:g} s of waiting")

    def _look_until(self, holds: Callable[[Sequence[DeviceJson]], bool], *, within_s: float, what: str) -> None:
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            rows = self.devices()
            self._show.fleet(rows, None)
            if holds(rows):
                return
            time.sleep(LOOK_EVERY_S)
        raise FleetError(
            "the fleet is not as it should be",
            expected=what,
            got=f"not within {within_s:g} s",
            next_step="see boxes/*/agent.log",
        )
