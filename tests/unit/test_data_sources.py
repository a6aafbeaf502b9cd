from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgepe import data_sources
from edgepe.data import check_informative, dataset, load_dataset
from edgepe.errors import DataError, MissingExtraError, UsageError

FUNCTIONS = """
import numpy as np

def pairs():
    for start in range(0, 6, 2):
        yield np.arange(start, start + 2, dtype=np.float32)[:, None], np.array([0, 1])

def named():
    return {"ids": np.arange(8).reshape(4, 2), "mask": np.ones((4, 2), np.int64), "y": np.arange(4)}

def arrays():
    return [np.zeros((2, 3)), np.ones((1, 3))]

def nothing():
    return iter(())

def texts():
    yield "x"

def numbers():
    yield {"x": 3}

def ragged():
    yield {"x": np.zeros((2, 3))}
    yield {"x": np.zeros((2, 4))}

def changing():
    yield {"x": np.zeros((2, 3))}
    yield {"z": np.zeros((2, 3))}

def endless():
    while True:
        yield np.zeros((1024, 1024))

value = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_batches.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_batches"


def test_a_function_gives_batches_of_inputs_and_labels(own: str) -> None:
    data = load_dataset(f"{own}:pairs")
    assert data.inputs["x"].ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1] * 3
    assert len(load_dataset(f"{own}:arrays")) == 3


def test_a_function_gives_several_inputs_of_whole_numbers(own: str) -> None:
    data = load_dataset(Path(f"{own}:named"))
    assert list(data.inputs) == ["ids", "mask"]
    assert data.inputs["ids"].dtype == np.int64
    check_informative(data)
    with pytest.raises(DataError, match="'x' is constant"):
        check_informative(dataset({"x": np.ones((4, 2), np.float32), "ids": data.inputs["ids"]}))
    with pytest.raises(DataError, match="'mask' is constant"):
        check_informative(dataset({"mask": data.inputs["mask"]}))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", "holds no inputs"),
        ("texts", "gives no batches"),
        ("numbers", "no samples axis"),
        ("ragged", "do not fit together"),
        ("changing", "batches of own_batches:changing differ"),
    ],
)
def test_batches_that_are_none_are_refused(own: str, name: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_dataset(f"{own}:{name}")


@pytest.mark.parametrize(("name", "said"), [("absent", "cannot be imported"), ("value", "is no function")])
def test_a_function_that_is_not_there_is_told(own: str, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_dataset(f"{own}:{name}")


def test_an_endless_function_is_ended(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_sources, "LARGEST_BYTES", 32 << 20)
    with pytest.raises(DataError, match=r"gives more than fits[\s\S]*in 5 batches"):
        load_dataset(f"{own}:endless")


def _images(folder: Path, *, mode: str = "RGB", size: tuple[int, int] = (6, 4)) -> Path:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for index, name in enumerate(("dog", "cat")):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            image.new(mode, size, 40 * index + number).save(folder / name / f"{number}.png")
    (folder / "notes").mkdir()
    return folder


def test_a_folder_of_images_gives_pixels_and_classes_by_name(tmp_path: Path) -> None:
    data = load_dataset(_images(tmp_path / "set", mode="L"))
    assert data.inputs["x"].shape == (4, 4, 6, 1)
    assert data.inputs["x"].dtype == np.uint8
    assert data.inputs["x"][:, 0, 0, 0].tolist() == [40, 41, 0, 1]
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert load_dataset(_images(tmp_path / "colour")).inputs["x"].shape == (4, 4, 6, 3)


def test_the_signatures_labels_number_the_classes(tmp_path: Path) -> None:
    data = load_dataset(_images(tmp_path / "set"), labels=("dog", "bird", "cat"))
    assert data.labels is not None
    assert data.labels.tolist() == [2, 2, 0, 0]
    with pytest.raises(DataError, match=r"class that the signature does not name[\s\S]*got: cat"):
        load_dataset(tmp_path / "set", labels=("dog", "bird"))


def test_images_of_several_sizes_are_refused_and_not_resized(tmp_path: Path) -> None:
    folder = _images(tmp_path / "set")
    pytest.importorskip("PIL.Image").new("RGB", (5, 5)).save(folder / "dog" / "7.png")
    with pytest.raises(DataError, match=r"several sizes[\s\S]*6 by 4, as 0\.png[\s\S]*5 by 5 in .*7\.png"):
        load_dataset(folder)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    folder = _images(tmp_path / "set")
    (folder / "cat" / "2.jpg").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"cat/2\.jpg cannot be read"):
        load_dataset(folder)


def test_images_without_pillow_name_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match=r"folder of images needs the extra 'images'"):
        load_dataset(tmp_path)
