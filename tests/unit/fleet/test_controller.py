from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from device_agent.wire.messages import (
    Message,
    Reported,
    ReportedModel,
    State,
    Status,
    decode_signed_desired,
    encode,
)
from edgepe.errors import FleetError
from edgepe.fleet.arrivals import read_arrival
from edgepe.fleet.controller import Controller, read_rollout
from edgepe.fleet.keys import OnlineKey
from edgepe.fleet.repository import Repository
from edgepe.fleet.store import RolloutRow, SqliteStore
from tests.fleet_agents import SITE, birth, make_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgepe.fleet.link import Delivery, Link


class MemoryLink:
    """A link without a broker: it can be cut, and keeps what was published."""

    def __init__(self) -> None:
        self.connected = True
        self.connection = 1
        self.published: list[tuple[str, bytes, bool]] = []

    def poll(self, timeout_s: float, *, most: int = 1) -> list[Delivery]:
        del timeout_s, most
        return []

    def publish(self, topic: str, payload: bytes, *, retain: bool) -> bool:
        if self.connected:
            self.published.append((topic, payload, retain))
        return self.connected


class Scene:
    """A controller over a real store and repository with one device."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(folder / "fleet.db")
        self.repository = Repository(folder / "repository")
        self.key = OnlineKey.open(folder / "keys")
        self.link = MemoryLink()
        self.controller = self.another()
        for version in ("1", "2"):
            bundle = make_bundle(folder, name="har", version=version, target="pi", weights=version.encode())
            self.repository.publish(bundle)
        self.arrive("status", Status(online=True, boot=1, session="a-1"))
        self.arrive("birth", birth("a", target="pi"))

    def another(self) -> Controller:
        link: Link = self.link  # type: ignore[assignment] # the part of a Link that a controller uses
        return Controller(self.store, link, self.repository, self.key)

    def arrive(self, leaf: str, message: Message) -> None:
        self.store.ingest([read_arrival(f"ep1/{SITE}/a/{leaf}", encode(message), now_ms=1)])

    def report(self, rev: int, state: State) -> None:
        model = ReportedModel(name="har", rev=rev, state=state)
        self.arrive("reported", Reported(device="a", boot=1, rev=rev, models=(model,), time_ms=1))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    with closing(made.store):
        yield made


def start(scene: Scene) -> None:
    scene.controller.start_rollout(name="har", version="2", waves="100%", deadline_s=60)


def test_a_document_is_kept_before_it_is_sent_and_sent_again_at_the_next_connect(scene: Scene) -> None:
    scene.link.connected = False
    start(scene)
    scene.controller.tick(0)
    (row,) = scene.store.desired()
    assert scene.link.published == []
    scene.link.connected = True
    scene.controller.tick(0)
    scene.controller.tick(0)
    assert scene.link.published == [(f"ep1/{SITE}/a/desired", row.document, True)]
    scene.link.connection += 1
    scene.controller.tick(0)
    assert len(scene.link.published) == 2


def test_a_revision_is_above_whatever_the_device_has_seen(scene: Scene) -> None:
    scene.report(41, State.FAILED)
    start(scene)
    scene.controller.tick(0)
    (row,) = scene.store.desired()
    desired = decode_signed_desired(row.document).desired
    assert (row.rev, desired.rev, desired.device) == (42, 42, "a")
    (model,) = desired.models
    bundle = scene.repository.find("har", "2", "pi")
    assert bundle is not None
    assert (model.path, model.sha256, model.length) == (bundle.path, bundle.sha256, bundle.length)


def test_a_new_controller_goes_on_where_the_last_one_died(scene: Scene) -> None:
    start(scene)
    scene.controller.tick(0)
    (row,) = scene.store.desired()
    heir = scene.another()
    heir.tick(0)
    assert scene.store.desired() == (row,), "the same question got a second revision"
    scene.report(row.rev, State.FAILED)
    heir.tick(0)
    (back,) = scene.store.desired()
    assert (back.rev, decode_signed_desired(back.document).desired.models) == (row.rev + 1, ())
    (kept,) = scene.store.rollouts(most=1)
    scene.report(back.rev, State.IDLE)
    heir.tick(0)
    heir.tick(0)
    assert not scene.store.rollouts(most=1)[0].open
    assert read_rollout(kept).reason.startswith("a: ")


def test_one_rollout_at_a_time(scene: Scene) -> None:
    start(scene)
    with pytest.raises(FleetError, match="a roll-out of har 2 is under way"):
        start(scene)


def test_a_damaged_rollout_is_explained() -> None:
    with pytest.raises(FleetError, match="stored roll-out r cannot be read"):
        read_rollout(RolloutRow(id="r", open=True, document=b"{}"))
