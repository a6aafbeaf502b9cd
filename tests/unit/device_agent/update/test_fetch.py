"""A download over a bad road: exact bytes, or a failure that says why."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from device_agent.errors import FetchError
from device_agent.update.fetch import HttpFetcher, Wanted
from device_agent.wire.canonical import digest
from tests.agent_kit import FaultyRepository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = os.urandom(300_000)
PATH = "targets/m/1/t.edge"


@pytest.fixture
def repository() -> Iterator[FaultyRepository]:
    found = FaultyRepository()
    found.files[PATH] = DATA
    yield found
    found.close()


def wanted(repository: FaultyRepository, *, data: bytes = DATA) -> Wanted:
    return Wanted(repositories=(repository.url,), path=PATH, sha256=digest(data), length=len(data))


def fetcher(**values: float) -> HttpFetcher:
    return HttpFetcher(timeout_s=values.get("timeout_s", 5), tries=3, pause_s=0)


def test_the_bytes_arrive(repository: FaultyRepository, tmp_path: Path) -> None:
    fetcher().fetch(wanted(repository), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_connection_that_is_cut_again_and_again_goes_on_where_it_stopped(
    repository: FaultyRepository, tmp_path: Path
) -> None:
    repository.cut_every = 65_536
    fetcher().fetch(wanted(repository), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
    assert [asked for _, asked in repository.requests] == ["", *(f"bytes={n * 65_536}-" for n in range(1, 5))]


def test_a_part_from_an_earlier_process_is_taken_up(repository: FaultyRepository, tmp_path: Path) -> None:
    repository.cut_every = 100_000
    with pytest.raises(FetchError):
        HttpFetcher(tries=0, pause_s=0).fetch(wanted(repository), tmp_path / "x")
    repository.cut_every = 0
    fetcher().fetch(wanted(repository), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
    assert repository.requests[-1][1] == "bytes=100000-"


def test_a_server_without_ranges_is_read_from_the_start(repository: FaultyRepository, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(DATA[:1000])
    (tmp_path / "x.etag").write_text('"old"')
    repository.ignore_range = True
    fetcher().fetch(wanted(repository), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_part_of_another_file_is_thrown_away(repository: FaultyRepository, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(1000))
    (tmp_path / "x.etag").write_text(f'"{digest(DATA)[:16]}"')
    fetcher().fetch(wanted(repository), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_file_that_changes_at_every_answer_is_given_up_or_exact(repository: FaultyRepository, tmp_path: Path) -> None:
    repository.restless = True
    repository.cut_every = 100_000
    with pytest.raises(FetchError):
        fetcher().fetch(wanted(repository), tmp_path / "x")


@pytest.mark.parametrize(
    ("served", "code"),
    [
        pytest.param(DATA[:-1] + bytes([DATA[-1] ^ 1]), "digest_mismatch", id="one bit"),
        pytest.param(DATA + b"x", "length_mismatch", id="longer"),
        pytest.param(DATA[:-1], "length_mismatch", id="shorter"),
        pytest.param(None, "not_found", id="absent"),
    ],
)
def test_other_bytes_are_refused(repository: FaultyRepository, tmp_path: Path, served: bytes | None, code: str) -> None:
    if served is None:
        del repository.files[PATH]
    else:
        repository.files[PATH] = served
    with pytest.raises(FetchError) as caught:
        fetcher().fetch(wanted(repository), tmp_path / "x")
    assert caught.value.code == code
    assert not (tmp_path / "x").exists() or (tmp_path / "x").stat().st_size <= len(DATA)


def test_a_silent_server_is_given_up(repository: FaultyRepository, tmp_path: Path) -> None:
    repository.cut_every = 10
    repository.stalled = True
    with pytest.raises(FetchError) as caught:
        HttpFetcher(timeout_s=0.1, tries=2, pause_s=0).fetch(wanted(repository, data=DATA[:20]), tmp_path / "x")
    assert caught.value.code in ("connection", "length_mismatch")


@pytest.mark.parametrize(
    ("url", "code"),
    [("ftp://127.0.0.1/x", "bad_url"), ("http://127.0.0.1:1/x", "connection")],
)
def test_an_address_that_leads_nowhere_is_named(url: str, code: str, tmp_path: Path) -> None:
    nowhere = Wanted(repositories=(url,), path=PATH, sha256=digest(DATA), length=len(DATA))
    with pytest.raises(FetchError) as caught:
        fetcher().fetch(nowhere, tmp_path / "x")
    assert caught.value.code == code
    assert url in str(caught.value.got)


def test_the_second_repository_helps_out(repository: FaultyRepository, tmp_path: Path) -> None:
    both = Wanted(
        repositories=("http://127.0.0.1:1/none", repository.url), path=PATH, sha256=digest(DATA), length=len(DATA)
    )
    fetcher().fetch(both, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
