"""What every test shares: the marker that names a system program a test wants."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin")


def find_program(name: str) -> str | None:
    """Return the path of a system program, also from the folders that a user's PATH leaves out."""
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(SYSTEM_FOLDERS))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose program is absent; fail it where everything must be there (``EDGEPE_REQUIRE_ALL``)."""
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            if find_program(name) is not None:
                continue
            message = f"wants the system program '{name}', which is not installed"
            if os.environ.get("EDGEPE_REQUIRE_ALL"):
                pytest.fail(message, pytrace=False)
            pytest.skip(message)


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """Return the root of the checkout."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def _own_calibration_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep calibrations of tests apart from the user's: neither reads what the other wrote."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
