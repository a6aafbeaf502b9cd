"""The whole report: one HTML file from a manifest and the evidence beside it.

Rules kept here:
1. The page asks for nothing: its policy allows one style sheet, by digest, and nothing else from anywhere. No script.
2. It is a pure function of its arguments: the same values, the same page.
3. It says the same on a phone, on a desk, in the dark and on paper.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

from edgepe.bundle.files import write_whole
from edgepe.bundle.findings import read_findings
from edgepe.bundle.report import detail, outcome
from edgepe.bundle.report.markup import Html, tag

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from device_agent.wire.manifest import Manifest
    from edgepe.bundle.findings import Findings

__all__ = ["render", "report_path", "write_report"]

SUFFIX = ".html"
STYLE = "report.css"


def report_path(bundle: Path) -> Path:
    """Return where the report of a bundle lies."""
    return bundle.with_name(bundle.name + SUFFIX)


def write_report(bundle: Path, manifest: Manifest, evidence: Mapping[str, object]) -> Path:
    """Write the report of a bundle beside it and return its path.

    Args:
        bundle: The ``.edge`` file.
        manifest: Its manifest.
        evidence: What :func:`edgepe.bundle.evidence.read_evidence` returns.

    Raises:
        BundleError: The evidence has a wrong field, or the folder cannot be written.
    """
    path = report_path(bundle)
    write_whole(path, render(manifest, read_findings(evidence), file=bundle.name).encode())
    return path


def render(manifest: Manifest, findings: Findings, *, file: str) -> str:
    """Return the page as text.

    Args:
        manifest: What the bundle says of itself.
        findings: What was measured and tried.
        file: Name of the bundle's file.
    """
    style = files("edgepe.bundle.report").joinpath(STYLE).read_text(encoding="utf8")
    sections = (
        outcome.contract(manifest, findings),
        outcome.sizes(manifest, findings),
        outcome.score(manifest, findings),
        outcome.latency(findings),
        detail.layers(findings),
        detail.operators(manifest),
        detail.attempts(findings),
        detail.signature(manifest),
        detail.golden(manifest, findings),
        detail.provenance(manifest, findings),
    )
    body = tag("body", tag("main", outcome.head(manifest, findings, file=file), *sections))
    page = tag("html", _head(f"{manifest.name} {manifest.version} for {manifest.target}", style), body, lang="en")
    return f"<!doctype html>\n{page}\n"


def _head(title: str, style: str) -> Html:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", Html(style)),  # ours, not data: a style sheet is not escaped
    )
