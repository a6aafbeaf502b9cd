"""The bytes of every message are pinned: only a reasoned change of the wire changes a file beside this one.

After such a change: ``python -m tests.golden.test_wire_bytes`` writes the files anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.wire_samples import golden_bytes, reencode

FOLDER = Path(__file__).parent / "wire"
NAMES = sorted(golden_bytes())


def test_every_file_is_of_a_known_kind() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_encoder_writes_the_pinned_bytes(name: str) -> None:
    assert golden_bytes()[name] == (FOLDER / name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_pinned_bytes_decode_and_encode_to_themselves(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    assert reencode(name, data) == data


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".json")])
def test_a_field_of_a_newer_version_survives(name: str) -> None:
    value = json.loads((FOLDER / name).read_bytes())
    value["zz_new"] = {"a": [1, None, "ü"]}
    if name == "desired.json":
        value["signed"]["zz_inner"] = 7
    data = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert reencode(name, data) == data


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, data in golden_bytes().items():
        (FOLDER / name).write_bytes(data)
