from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from device_agent.wire.canonical import digest
from edgepe.bundle import evidence_path, write_evidence
from edgepe.bundle.report import report_path
from edgepe.errors import BundleError, FleetError, MissingFileError
from edgepe.fleet.repository import Repository
from tests.fleet_agents import make_bundle
from tests.report_samples import evidence

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def test_a_bundle_lies_where_devices_look_with_its_evidence_beside_it(repository: Repository, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, name="har", version="2", target="jetson-orin")
    write_evidence(bundle, evidence() | {"bundle_sha256": digest(bundle.read_bytes())})
    report_path(bundle).write_text("<script>a page from elsewhere</script>")
    published = repository.publish(bundle)
    place = repository.folder / "targets/har/2/jetson-orin.edge"
    assert published.path == "targets/har/2/jetson-orin.edge"
    assert place.read_bytes() == bundle.read_bytes()
    assert (published.sha256, published.length) == (digest(bundle.read_bytes()), bundle.stat().st_size)
    assert evidence_path(place).read_bytes() == evidence_path(bundle).read_bytes()
    report = report_path(place).read_text()
    assert "<h1>har 2</h1>" in report
    assert "script" not in report
    assert repository.find("har", "2", "jetson-orin") == published
    assert repository.find("har", "3", "jetson-orin") is None


@pytest.mark.parametrize(
    ("written", "complaint"), [({}, "lacks a field"), (evidence(), "another bundle")], ids=["damaged", "of another"]
)
def test_evidence_that_is_not_the_bundles_own_stops_publication(
    repository: Repository, tmp_path: Path, written: dict[str, object], complaint: str
) -> None:
    bundle = make_bundle(tmp_path, name="har", version="2", target="jetson-orin")
    write_evidence(bundle, written)
    with pytest.raises(BundleError, match=complaint):
        repository.publish(bundle)
    assert repository.find("har", "2", "jetson-orin") is None


def test_the_index_does_not_depend_on_the_order_of_publication(tmp_path: Path) -> None:
    bundles = [
        make_bundle(tmp_path, name="har", version=version, target=target)
        for version in ("1", "2")
        for target in ("pi", "jetson")
    ]
    indexes = []
    for name, order in (("a", bundles), ("b", bundles[::-1])):
        repository = Repository(tmp_path / name)
        for bundle in order:
            repository.publish(bundle)
        indexes.append((repository.folder / "index.json").read_bytes())
    assert indexes[0] == indexes[1]
    assert json.loads(indexes[0])["schema"] == 1


def test_other_bytes_under_a_published_version_are_refused(repository: Repository, tmp_path: Path) -> None:
    repository.publish(make_bundle(tmp_path, name="har", version="1", target="pi"))
    before = (repository.folder / "index.json").read_bytes()
    with pytest.raises(FleetError, match="a published version never changes"):
        repository.publish(make_bundle(tmp_path, name="har", version="1", target="pi", weights=b"others"))
    repository.publish(make_bundle(tmp_path, name="har", version="1", target="pi"))
    assert (repository.folder / "index.json").read_bytes() == before


def test_a_file_altered_after_publication_never_becomes_trusted(repository: Repository, tmp_path: Path) -> None:
    published = repository.publish(make_bundle(tmp_path, name="har", version="1", target="pi"))
    (repository.folder / published.path).write_bytes(b"altered")
    repository.publish(make_bundle(tmp_path, name="har", version="2", target="pi"))
    assert repository.find("har", "1", "pi") == published
    repository.publish(make_bundle(tmp_path, name="har", version="1", target="pi"))
    assert digest((repository.folder / published.path).read_bytes()) == published.sha256, (
        "publishing again did not mend"
    )


def test_a_damaged_bundle_is_refused_before_anything_is_written(repository: Repository, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, name="har", version="1", target="pi", weights=b"A" * 1000)
    bundle.write_bytes(bundle.read_bytes().replace(b"AAAA", b"AABA", 1))
    with pytest.raises(BundleError):
        repository.publish(bundle)
    with pytest.raises(MissingFileError):
        repository.publish(tmp_path / "absent.edge")
    assert not repository.folder.exists()


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 2, "bundles": []}'])
def test_an_index_that_cannot_be_read_is_explained(repository: Repository, text: str) -> None:
    repository.folder.mkdir()
    (repository.folder / "index.json").write_text(text)
    with pytest.raises(FleetError, match="index cannot be read"):
        repository.bundles()
