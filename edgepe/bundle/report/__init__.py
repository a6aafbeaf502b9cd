"""The report: one self-contained HTML file beside each bundle, made from its manifest and its evidence.

``markup`` escapes, ``charts`` draw, ``parts`` are tables and figures in words, ``outcome`` and ``detail`` are the
sections, ``page`` puts them together.
"""

from __future__ import annotations

from edgepe.bundle.report.page import render, report_path, write_report

__all__ = ["render", "report_path", "write_report"]
