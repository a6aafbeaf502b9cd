"""What was measured while building, beside the bundle: times differ from run to run, so they stay out of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from edgepe.bundle.files import write_whole
from edgepe.errors import BundleError, MissingFileError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["evidence_path", "read_evidence", "write_evidence"]

SUFFIX = ".evidence.json"


def evidence_path(bundle: Path) -> Path:
    """Return where the evidence of a bundle lies."""
    return bundle.with_name(bundle.name + SUFFIX)


def write_evidence(bundle: Path, evidence: Mapping[str, object]) -> Path:
    """Write the evidence of a bundle beside it and return its path.

    Args:
        bundle: The ``.edge`` file.
        evidence: JSON values: the attempts with their verdicts, the host, the measured times in µs.

    Raises:
        BundleError: The folder cannot be written.
    """
    path = evidence_path(bundle)
    write_whole(path, (json.dumps(evidence, indent=1, sort_keys=True) + "\n").encode())
    return path


def read_evidence(bundle: Path) -> Mapping[str, object]:
    """Return the evidence of a bundle.

    Raises:
        MissingFileError: There is none.
        BundleError: It is no JSON object.
    """
    path = evidence_path(bundle)
    try:
        evidence = json.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no evidence {path}", expected="the file that edgepe build wrote") from error
    except (ValueError, OSError) as error:
        raise BundleError(f"{path} cannot be read", expected="JSON", got=str(error)) from error
    if not isinstance(evidence, dict):
        raise BundleError(f"{path} cannot be read", expected="a JSON object", got=type(evidence).__name__)
    return evidence
