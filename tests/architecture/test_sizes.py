"""Rooms stay small, packages export what they mean to, and nothing of a machine gets in."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

LONGEST_MODULE = 500
SOURCES = sorted(p for package in ("edgepe", "device_agent") for p in (ROOT / package).rglob("*.py"))
FOLDERS = {"edgepe", "device_agent", "tests", "targets"}
FILES = {"pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "LICENSE"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_is_short_documented_and_says_what_it_exports(path: Path) -> None:
    text = path.read_text(encoding="utf8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= LONGEST_MODULE
    assert ast.get_docstring(tree)
    if path.name == "__main__.py":
        return
    names = {target.id for node in tree.body for target in targets_of(node) if isinstance(target, ast.Name)}
    assert "__all__" in names


def targets_of(node: ast.stmt) -> list[ast.expr]:
    """Return what an assignment assigns to."""
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AnnAssign) else []


def test_the_top_level_holds_only_what_the_layout_names() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {row.split("/")[0] for row in tracked.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= FOLDERS | FILES


def test_no_absolute_path_of_a_machine_is_in_the_repository() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in tracked.splitlines() if (ROOT / name).is_file()]
    pattern = re.compile(rb"/(?:home|root|work|Users)/[a-z]")
    assert [str(path) for path in files if path != Path(__file__) and pattern.search(path.read_bytes())] == []
