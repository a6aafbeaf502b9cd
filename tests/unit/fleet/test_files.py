from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgepe.fleet.files import opened_atomically, write_atomically

if TYPE_CHECKING:
    from pathlib import Path


def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"old", mode=0o600)

    def fail() -> None:
        with opened_atomically(path) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_bytes() == b"old"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
