"""What a build came to, for one target: the row of the table and of ``--json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from edgepe.contract import Verdict
    from edgepe.metrics import Comparison
    from edgepe.scheme import Precision

__all__ = ["Built"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One bundle on disk.

    Attributes:
        path: The ``.edge`` file.
        name: The model's name.
        version: Its version.
        target: Name of the target profile.
        format: ``onnx`` or ``tflite``.
        precision: Of the artifact as a whole.
        bytes: Size of the model file.
        transfer_bytes: Size of the bundle.
        float_bytes: Size of the float model file of the same format.
        comparison: Scores, drop and interval.
        scored_on: The runtime, or the stand-in by name.
        latency_us: Latency of one inference on one thread, µs; None where unknown.
        float_latency_us: The same of the float artifact.
        latency_is: ``measured`` or ``predicted``.
        verdict: The contract, bound by bound.
        why: Why this precision.
    """

    path: Path
    name: str
    version: str
    target: str
    format: str
    precision: Precision
    bytes: int
    transfer_bytes: int
    float_bytes: int
    comparison: Comparison
    scored_on: str
    latency_us: float | None
    float_latency_us: float | None
    latency_is: str
    verdict: Verdict
    why: str

    def to_json(self) -> dict[str, object]:
        """Return the row of ``edgepe build --json``."""
        return {
            "path": str(self.path),
            "name": self.name,
            "version": self.version,
            "target": self.target,
            "format": self.format,
            "precision": str(self.precision),
            "bytes": self.bytes,
            "transfer_bytes": self.transfer_bytes,
            "float_bytes": self.float_bytes,
            "metric": self.comparison.metric,
            "float_score": self.comparison.float_score,
            "score": self.comparison.score,
            "drop": self.comparison.drop,
            "drop_interval": [self.comparison.low, self.comparison.high],
            "samples": self.comparison.samples,
            "scored_on": self.scored_on,
            "latency_us": self.latency_us,
            "float_latency_us": self.float_latency_us,
            "latency_is": self.latency_is,
            "why": self.why,
            "contract": {
                "held": self.verdict.held,
                "bounds": [
                    {"bound": str(bound.kind), "limit": bound.limit, "value": bound.value, "held": bound.held}
                    for bound in self.verdict.bounds
                ],
            },
        }
