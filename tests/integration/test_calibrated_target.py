"""A build keeps its calibration and predicts memory; its evidence feeds the fit of a cost table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from click.testing import CliRunner

from edgepe import pipeline
from edgepe.bundle import read_bundle, read_evidence
from edgepe.cli.targets import targets
from edgepe.scheme import Precision
from edgepe.target import load_target
from tests.small_graphs import cnn, feeds

pytestmark = [pytest.mark.slow]


class Stages:
    """Notes how far each stage got."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = {}
        self._name = ""

    def stage(self, name: str, total: int | None = None) -> None:
        """Note that a stage begins."""
        self._name = name
        self.seen[name] = [] if total is None else [total]

    def advance(self, done: int) -> None:
        """Note how many steps are done."""
        self.seen[self._name].append(done)


def request(folder: Path, *, target: str = "generic", cache: Path | None = None) -> pipeline.Request:
    """Return a build of a small CNN."""
    model = cnn()
    ir.save(model, folder / "net.onnx")
    np.savez(folder / "data.npz", x=feeds(model, samples=96)["x"])
    return pipeline.Request(
        source=str(folder / "net.onnx"),
        targets=(load_target(target),),
        calibration=folder / "data.npz",
        out=folder / "out",
        precision=Precision.INT8,
        cache=cache,
    )


def test_a_second_build_takes_its_ranges_from_the_cache_and_comes_to_the_same_bytes(tmp_path: Path) -> None:
    wanted = pipeline.build(request(tmp_path))[0].path.read_bytes()
    first, second = Stages(), Stages()
    for stages in (first, second):
        (built,) = pipeline.build(request(tmp_path, cache=tmp_path / "cache"), watch=stages)
        assert built.path.read_bytes() == wanted
    assert first.seen["calibrating (percentile)"] == [96, 0, 32, 64, 96]
    assert second.seen["calibrating (percentile)"] == [96, 96]


def test_a_cache_that_cannot_be_written_is_told_and_the_build_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    stages = Stages()
    pipeline.build(request(tmp_path, cache=tmp_path / "file" / "cache"), watch=stages)
    assert any("calibration was not kept" in name for name in stages.seen)


def test_memory_is_predicted_near_what_the_child_took(tmp_path: Path) -> None:
    (built,) = pipeline.build(request(tmp_path))
    predicted = read_bundle(built.path).manifest.predicted_rss_bytes
    took = read_evidence(built.path)["rss_bytes"]
    assert predicted is not None
    assert isinstance(took, int)
    assert 0.6 < predicted / took < 1.6


def test_evidence_tells_the_work_that_a_report_needs(tmp_path: Path) -> None:
    (built,) = pipeline.build(request(tmp_path, target="raspberry-pi"))
    rows = [{"latency_us": 250.0, "evidence": f"out/{built.path.name}.evidence.json"}]
    rows += [
        {"latency_us": 200.0 + 50 * place, "work": {"ops": 10, "int8": {"macs": 400_000 * place, "elements": 0}}}
        for place in range(2, 8)
    ]
    reports = tmp_path / "reports.json"
    reports.write_text(json.dumps({"schema": 1, "target": "raspberry-pi-5", "reports": rows}))
    line = ["calibrate", "raspberry-pi", "--from", str(reports), "--out", str(tmp_path / "mine.toml"), "--json"]
    row = json.loads(CliRunner().invoke(targets, line, catch_exceptions=False).output)
    assert (row["reports"], row["loads"]) == (7, 7)
