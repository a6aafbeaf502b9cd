from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import edgepe.fleet

WEB = Path(edgepe.fleet.__file__).parent / "web"
OWN_SCRIPTS = sorted(path for path in WEB.glob("*.js"))
MOST_BYTES = 150_000


class Markup(HTMLParser):
    """What index.html refers to, and what the policy would refuse."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.refers: list[str] = []
        self.policies: list[str] = []
        self.inline: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep addresses, policies and attributes that hold code or style."""
        given = dict(attrs)
        self._inside = tag
        self.refers += [value for name, value in attrs if name in ("src", "href") and value and value[0] != "#"]
        self.inline += [f"{tag} {name}" for name in given if name == "style" or name.startswith("on")]
        if (given.get("http-equiv") or "").lower() == "content-security-policy":
            self.policies.append(given["content"] or "")

    def handle_data(self, data: str) -> None:
        """Keep scripts and styles that stand in the page itself."""
        if self._inside in ("script", "style") and data.strip():
            self.inline.append(data.strip()[:40])


@pytest.fixture(scope="module")
def markup() -> Markup:
    return Markup((WEB / "index.html").read_text(encoding="utf-8"))


def test_whole_page_weighs_less_than_150_kb() -> None:
    assert sum(path.stat().st_size for path in WEB.rglob("*") if path.is_file()) <= MOST_BYTES


def test_vendored_chart_library_comes_with_its_licence_and_names_its_version() -> None:
    folder = WEB / "vendor" / "uplot"
    assert "MIT License" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert "(v1.6.32)" in (folder / "uPlot.iife.min.js").read_text(encoding="utf-8")[:80]


def test_page_refers_only_to_files_that_ship_with_it(markup: Markup) -> None:
    assert markup.refers
    assert [name for name in markup.refers if not (WEB / name).is_file()] == []


def test_page_has_no_inline_script_or_style_and_a_policy_that_forbids_them(markup: Markup) -> None:
    assert markup.inline == []
    assert [policy.split(";")[0] for policy in markup.policies] == ["default-src 'self'"]


@pytest.mark.parametrize("path", OWN_SCRIPTS, ids=lambda path: path.name)
def test_script_imports_only_its_neighbours_and_names_no_host(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    neighbours = re.findall(r'from "(.+?)"', text)
    assert [name for name in neighbours if not (WEB / name).is_file()] == []
    assert re.findall(r"https?://|\bws://", text) == []


@pytest.mark.parametrize("path", OWN_SCRIPTS, ids=lambda path: path.name)
def test_script_never_turns_text_into_markup_or_code(path: Path) -> None:
    text = "\n".join(line.split("//")[0] for line in path.read_text(encoding="utf-8").splitlines())
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text) == []
