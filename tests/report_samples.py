"""A manifest and the evidence of a build as small values, for the tests of the report."""

from __future__ import annotations

from typing import Any

from device_agent.wire.manifest import (
    FileEntry,
    Golden,
    Manifest,
    MetricClaim,
    OpRow,
    Preprocess,
    RuntimeFloor,
    TensorSpec,
)

__all__ = ["HOSTILE", "evidence", "manifest"]

HOSTILE = "<script>document.title='owned'</script>\"'><img src=x onerror=\"document.title='owned'\">"
DIGEST = "ab" * 32


def manifest(*, nodes: tuple[str, ...] = ("conv", "relu", "gemm")) -> Manifest:
    """Return a manifest with one operator a node."""
    return Manifest(
        name="net",
        version="3",
        target="raspberry-pi-5",
        format="onnx",
        precision="int8",
        model="model.onnx",
        files=(
            FileEntry(name="golden.npz", sha256=DIGEST, bytes=2048),
            FileEntry(name="model.onnx", sha256=DIGEST, bytes=10_000),
        ),
        inputs=(
            TensorSpec(
                name="x",
                dtype="float32",
                shape=(-1, 3, 8, 8),
                layout="NCHW",
                preprocess=Preprocess(layout="NHWC", scale=0.5, mean=(0.25,), std=(2.0,)),
            ),
        ),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(-1, 2)),),
        labels=("cat", "dog"),
        runtime=RuntimeFloor(name="onnxruntime", version="1.20.0"),
        ops=tuple(
            OpRow(node=node, op="Conv", precision="fp32", reason="few-channels", detail=f"3 of 16 channels of {node}")
            for node in nodes
        ),
        calibration_digest=DIGEST,
        profile_digest=DIGEST,
        metric=MetricClaim(
            name="accuracy",
            float_score=0.91,
            score=0.90,
            drop=1.0,
            low=0.2,
            high=2.5,
            samples=500,
            scored_on="onnxruntime 1.23 on x86-64, stand-in for aarch64",
        ),
        predicted_latency_us=120,
        baseline=(0.25, 0.75),
        golden=Golden(file="golden.npz", count=8, atol=0.1, rtol=0.001, min_agree=0.85),
    )


def evidence(*, nodes: tuple[str, ...] = ("conv", "relu", "gemm"), measured: bool = False) -> dict[str, Any]:
    """Return evidence of a search that refused one attempt, with one layer a node."""
    timing = {
        "us": 100.0,
        "is": "measured" if measured else "predicted",
        "p99_us": 180.0 if measured else None,
        "load_us": 5000.0,
        "cold_us": 900.0,
        "times_us": [90.0 + n % 20 for n in range(200)] if measured else [],
        "cost_table": "arithmetic",
    }
    bound = {"kind": "max_drop", "limit": 2.0, "value": 5.0, "held": False}
    return {
        "schema": 1,
        "bundle_sha256": "cd" * 32,
        "target": "raspberry-pi-5",
        "source": "net.onnx",
        "why": "int8 breaks max_drop by 3; fp32 holds",
        "scored_on": "onnxruntime 1.23 on x86-64, stand-in for aarch64",
        "host": {"machine": "x86_64", "system": "Linux", "python": "3.11.7"},
        "runtime": {"name": "onnxruntime", "version": "1.23"},
        "versions": {"edgepe": "0.1.0", "onnx": "1.23"},
        "data": [{"use": "calibration", "samples": 300, "digest": DIGEST}],
        "comparison": {"method": "normal"},
        "drop_unit": "points",
        "latency": timing,
        "float": {"bytes": 25_000, "latency": timing | {"us": 240.0}},
        "rss_bytes": 60_000_000,
        "model_rss_bytes": 30_000_000,
        "attempts": [
            {
                "precision": "int8",
                "held": False,
                "error": "",
                "measured": {"drop": 5.0, "bytes": 7000, "latency_us": 80.0},
                "bounds": [bound],
            },
            {
                "precision": "mixed",
                "held": True,
                "error": "",
                "measured": {"drop": 1.0, "bytes": 10_000, "latency_us": 100.0},
                "bounds": [bound | {"value": 1.0, "held": True}],
            },
        ],
        "layers": {
            "threshold_db": 10.0,
            "faithful_db": 40.0,
            "reference": "the float ONNX graph of the same target, both on onnxruntime 1.23",
            "rows": [
                {"node": node, "op": "Conv", "fused": [], "sqnr_db": 40.0 - index, "max_error": 0.1, "peak": 3.0}
                for index, node in enumerate(nodes)
            ],
            "skipped": [{"node": "gone", "reason": "the artifact has no node of its name"}],
            "samples": 64,
            "first_divergent": "",
            "disturbance_db": 150.0,
            "error": "",
        },
    }
