from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from edgepe.bundle.findings import read_findings
from edgepe.bundle.report import render, report_path, write_report
from edgepe.errors import BundleError
from tests.report_samples import HOSTILE, evidence, manifest

if TYPE_CHECKING:
    from pathlib import Path

SECTIONS = (
    "contract",
    "size",
    "score",
    "latency",
    "layers",
    "operators",
    "attempts",
    "signature",
    "golden",
    "provenance",
)
OPENED_ONLY = {"meta", "link", "br", "hr"}


class Outline(HTMLParser):
    """Reads a page and keeps its elements, its texts by section, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.section = "head"
        self.opened: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.section = str(dict(attrs)["id"]) if tag == "section" else self.section
        if tag not in OPENED_ONLY:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts[self.section] = self.texts.get(self.section, "") + data

    def names(self) -> set[str]:
        return {name for name, _ in self.elements}


def page(facts: dict[str, Any] | None = None, **changes: Any) -> str:
    return render(manifest(**changes), read_findings(facts or evidence(**changes)), file="net-3-raspberry-pi-5.edge")


def text(section: str, facts: dict[str, Any] | None = None) -> str:
    return Outline(page(facts)).texts[section]


def test_every_section_is_there_and_every_element_is_closed() -> None:
    outline = Outline(page())
    assert [attributes["id"] for name, attributes in outline.elements if name == "section"] == list(SECTIONS)
    assert outline.opened == []
    assert all(outline.texts[section].strip() for section in SECTIONS)


def test_the_contract_names_bound_limit_value_interval_and_verdict() -> None:
    contract = text("contract")
    for shown in ("Score drop", "2.00 points", "1.00 points", "+0.20 to +2.50", "held", "int8 breaks max_drop by 3"):
        assert shown in contract
    assert "its interval reaches 2.50" in contract
    assert "Contract held" in text("head")


def test_a_build_without_bounds_says_so() -> None:
    facts = evidence()
    facts["attempts"] = [facts["attempts"][1] | {"bounds": []}]
    assert "No bound was set" in text("head", facts)
    assert "given no bound" in text("contract", facts)


def test_the_verdict_is_of_the_attempt_that_ships_wherever_it_stands() -> None:
    facts = evidence()
    facts["attempts"] = facts["attempts"][::-1]
    assert "Contract held" in text("head", facts)


def test_a_bound_whose_value_is_unknown_is_not_shown_as_kept() -> None:
    facts = evidence()
    unknown = {"kind": "max_latency_us", "limit": 50.0, "value": None, "held": False}
    facts["attempts"] = [facts["attempts"][0] | {"bounds": [unknown]}]
    assert "Contract broken" in text("head", facts)
    assert "Latency50.0 µsunknown" in text("contract", facts)


def test_a_predicted_latency_is_called_predicted_with_its_source() -> None:
    latency = text("latency")
    assert "predicted" in latency
    assert "arithmetic" in latency
    assert "measured" not in latency.replace("not measured", "")


def test_a_measured_latency_is_shown_as_a_distribution_with_its_host() -> None:
    facts = evidence(measured=True)
    latency = text("latency", facts)
    for shown in ("200 timed runs", "median 100 µs", "p99 180 µs", "Linux x86_64", "240 µs"):
        assert shown in latency
    assert "predicted" not in latency


@pytest.mark.parametrize(("slower", "word"), [(True, "slower than float"), (False, "not slower than float")])
def test_times_taken_in_turns_with_the_float_twin_are_told(slower: bool, word: str) -> None:  # noqa: FBT001 - a fact of the evidence
    facts = evidence(measured=True)
    facts["against_float"] = {"us": [90.0, 91.0], "float_us": [100.0, 98.0], "ratio": 0.91, "slower": slower}
    latency = text("latency", facts)
    assert f"{word} In turns with its float twin" in latency
    assert "0.91 times as long: 90.0 µs against 100 µs; 91.0 µs against 98.0 µs" in latency


def test_layers_are_a_chart_and_a_table_and_name_what_was_left_out() -> None:
    layers = text("layers")
    for shown in ("38.0 dB", "no divergent layer", "64 samples", "divergent below 10 dB", "gone", "has no node"):
        assert shown in layers


def test_the_first_divergent_layer_is_named() -> None:
    facts = evidence()
    facts["layers"]["rows"][1]["sqnr_db"] = 3.0
    facts["layers"]["first_divergent"] = "relu"
    assert "The first layer below 10 dB is relu" in text("layers", facts)


def test_probing_that_changed_the_outputs_is_told() -> None:
    facts = evidence()
    facts["layers"]["disturbance_db"] = 31.5
    assert "31.5 dB only" in text("layers", facts)


@pytest.mark.parametrize(
    ("layers", "shown"),
    [
        (None, "recorded no layers"),
        ({"rows": [], "error": "the runtime crashed"}, "No layer was compared: the runtime crashed"),
    ],
    ids=["older build", "nothing comparable"],
)
def test_layers_that_are_not_there_are_not_made_up(layers: dict[str, Any] | None, shown: str) -> None:
    facts = evidence()
    facts["layers"] = facts["layers"] | layers if layers else None
    assert shown in text("layers", facts)


def test_every_operator_has_its_reason() -> None:
    operators = text("operators")
    for shown in ("conv", "relu", "gemm", "few-channels", "3 of 16 channels", "3 fp32"):
        assert shown in operators


def test_each_attempt_says_why_it_was_refused() -> None:
    attempts = text("attempts")
    assert "1. int8" in attempts
    assert "refused" in attempts
    assert "max_drop broken: 5, limit 2" in attempts
    assert "2. mixed" in attempts
    facts = evidence()
    facts["attempts"][0] |= {"measured": None, "bounds": [], "error": "no fp16 arithmetic"}
    assert "no fp16 arithmetic" in text("attempts", facts)


def test_digests_data_versions_and_golden_terms_are_shown() -> None:
    provenance = text("provenance")
    for shown in ("cd" * 32, "ab" * 32, "calibration, 300 samples", "edgepe 0.1.0", "Python 3.11.7", "net.onnx"):
        assert shown in provenance
    for shown in ("8 samples", "0.1 + 0.001", "85% of the vectors"):
        assert shown in text("golden")
    for shown in ("N x 8 x 8 x 3 NHWC: (x · 0.5 - [0.25]) / [2]", "cat, dog", "75.0%"):
        assert shown in text("signature")


def test_very_many_layers_are_folded_below_the_lowest_ones() -> None:
    nodes = tuple(f"node_{n}" for n in range(100))
    outline = Outline(page(nodes=nodes))
    assert "The 20 lowest, in the order of the graphlayer" in outline.texts["layers"]
    assert outline.texts["layers"].count("node_99") == 4  # the sentence that names it, the chart, both tables
    assert [attributes for name, attributes in outline.elements if name == "details"] == [{}, {}]
    few = Outline(page())
    assert [attributes for name, attributes in few.elements if name == "details"] == [{"open": ""}, {"open": ""}]
    assert "lowest, in the order" not in few.texts["layers"]


def test_of_very_many_classes_the_most_frequent_are_shown() -> None:
    many = replace(manifest(), labels=(), baseline=tuple(n / 499_500 for n in range(1000)))
    signature = Outline(render(many, read_findings(evidence()), file="x.edge")).texts["signature"]
    assert "class 999" in signature
    assert "class 979" not in signature
    assert "The 20 most frequent of 1000 classes" in signature


def test_older_evidence_without_the_newer_fields_still_gives_a_page() -> None:
    facts = evidence()
    for name in ("source", "why", "versions", "data", "drop_unit", "float", "layers"):
        del facts[name]
    outline = Outline(page(facts))
    assert "float size not recorded" in outline.texts["head"]
    assert "not recorded" in outline.texts["provenance"]


def test_strings_from_models_and_files_are_text_and_never_markup() -> None:
    facts = evidence(nodes=(HOSTILE,))
    for name in ("source", "why", "scored_on", "drop_unit"):
        facts[name] = HOSTILE
    facts["host"]["machine"] = facts["runtime"]["name"] = facts["versions"]["edgepe"] = HOSTILE
    facts["attempts"][0]["error"] = facts["attempts"][0]["precision"] = HOSTILE
    facts["layers"]["reference"] = facts["layers"]["first_divergent"] = HOSTILE
    facts["layers"]["skipped"] = [{"node": HOSTILE, "reason": HOSTILE}]
    written = render(manifest(nodes=(HOSTILE,)), read_findings(facts), file=HOSTILE)
    outline = Outline(written)
    assert not {"script", "img", "iframe", "object"} & outline.names()
    assert not [key for _, attributes in outline.elements for key in attributes if key.startswith("on")]
    assert HOSTILE in outline.texts["operators"]
    assert outline.opened == []


def test_the_policy_allows_the_one_style_sheet_and_nothing_else() -> None:
    written = page()
    style = re.search(r"<style>(.*?)</style>", written, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(
        str(attributes["content"])
        for name, attributes in Outline(written).elements
        if name == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert f"default-src 'none'; style-src 'sha256-{digest}';" in policy
    assert " style=" not in written
    assert "http://" not in written
    assert "https://" not in written


def test_the_same_values_give_the_same_page() -> None:
    assert page() == page()


def test_the_report_is_written_beside_the_bundle(tmp_path: Path) -> None:
    bundle = tmp_path / "net.edge"
    written = write_report(bundle, manifest(), evidence())
    assert written == report_path(bundle) == tmp_path / "net.edge.html"
    assert written.read_text(encoding="utf8").startswith("<!doctype html>")


@pytest.mark.parametrize("field", ["latency", "host", "attempts", "bundle_sha256"])
def test_evidence_of_the_wrong_type_is_refused_by_name(field: str) -> None:
    with pytest.raises(BundleError, match=field):
        read_findings(evidence() | {field: 7})
