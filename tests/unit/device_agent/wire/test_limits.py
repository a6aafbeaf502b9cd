"""What the wire refuses, each with an explained error."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest

from device_agent.wire.canonical import canonical, parse_document
from device_agent.wire.control import FrameReader, decode_control
from device_agent.wire.errors import WireError
from device_agent.wire.histogram import LogHistogram
from device_agent.wire.limits import MAX_FRAME_BYTES, MAX_PRESENCE_BYTES
from device_agent.wire.manifest import FileEntry, Golden
from device_agent.wire.messages import DesiredModel, Window, decode_status, encode
from device_agent.wire.tensor import Preprocess, TensorSpec
from device_agent.wire.topics import Topics, fleet_filter, parse_topic
from tests.wire_samples import MANIFEST, MESSAGES, SHA

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b'{"a":1,"a":2}', id="a key twice"),
        pytest.param(b"[NaN]", id="not a number"),
        pytest.param(b"[1e999]", id="infinite"),
        pytest.param(b'["\\ud800"]', id="half a surrogate pair"),
        pytest.param(b'{"\\ud800":1}', id="half a surrogate pair as a key"),
        pytest.param(b"[9223372036854775808]", id="64 bits"),
        pytest.param(b"[" + b"9" * 5000 + b"]", id="thousands of digits"),
        pytest.param(b"[" * 30 + b"]" * 30, id="deep"),
        pytest.param(b"[" * 100_000, id="very deep"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b"", id="empty"),
    ],
)
def test_ambiguous_or_hostile_json_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        parse_document(data, limit=1 << 20, what="test")


def test_a_document_past_its_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(WireError, match="too long"):
        decode_status(b" " * (MAX_PRESENCE_BYTES + 1))


def test_a_signed_document_holds_no_float() -> None:
    with pytest.raises(WireError, match="floating point"):
        canonical({"a": [1.5]})


def test_a_message_of_a_newer_version_says_which_side_to_update() -> None:
    value = json.loads(encode(MESSAGES["status"])) | {"v": 2}
    with pytest.raises(WireError) as caught:
        decode_status(json.dumps(value).encode())
    assert caught.value.next_step


@pytest.mark.parametrize("field", ["online", "boot", "session", "v"])
def test_an_absent_field_is_named(field: str) -> None:
    value = json.loads(encode(MESSAGES["status"]))
    del value[field]
    with pytest.raises(WireError) as caught:
        decode_status(json.dumps(value).encode())
    assert field in str(caught.value)


def test_true_is_no_integer() -> None:
    value = json.loads(encode(MESSAGES["status"])) | {"boot": True}
    with pytest.raises(WireError, match=r"status\.boot"):
        decode_status(json.dumps(value).encode())


def test_a_frame_past_its_limit_is_refused_by_its_head() -> None:
    with pytest.raises(WireError, match="too long"):
        FrameReader().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


def test_an_unknown_control_message_is_refused() -> None:
    with pytest.raises(WireError, match="unknown kind"):
        decode_control(b'{"v":1,"kind":"dance"}')


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Topics(site="a/b", device="x"), id="slash in a site"),
        pytest.param(lambda: Topics(site="a", device="+"), id="wildcard device"),
        pytest.param(lambda: Topics(site="a", device="x" * 65), id="long device"),
        pytest.param(lambda: Topics(site="a", device="x").cmd("#"), id="wildcard command"),
        pytest.param(lambda: parse_topic("ep1/a/b/status/more"), id="too many levels"),
        pytest.param(lambda: parse_topic("ep1/a/b/cmd"), id="command without a name"),
        pytest.param(lambda: parse_topic("ep2/a/b/status"), id="another root"),
        pytest.param(lambda: parse_topic("ep1/a/b/other"), id="another leaf"),
        pytest.param(lambda: FileEntry(name="../x", sha256=SHA, bytes=1), id="file above the slot"),
        pytest.param(lambda: FileEntry(name="manifest.json", sha256=SHA, bytes=1), id="the manifest lists itself"),
        pytest.param(lambda: FileEntry(name="x", sha256="AB", bytes=1), id="short digest"),
        pytest.param(lambda: Golden(file="g", count=1, atol=-1, rtol=0, min_agree=1), id="negative tolerance"),
        pytest.param(lambda: Window(start_ms=2, end_ms=2), id="empty window"),
        pytest.param(lambda: Preprocess(std=(0.0,)), id="division by zero"),
        pytest.param(lambda: Preprocess(scale=float("nan")), id="scale that is no number"),
        pytest.param(lambda: Preprocess(layout="XYZ"), id="unknown layout"),
        pytest.param(lambda: TensorSpec(name="x", dtype="f", shape=(0,)), id="empty dimension"),
        pytest.param(lambda: TensorSpec(name="x", dtype="f", shape=(1, 2), layout="NCW"), id="rank"),
        pytest.param(
            lambda: TensorSpec(name="x", dtype="f", shape=(1, 2), layout="NC", preprocess=Preprocess(layout="NCW")),
            id="raw layout of other axes",
        ),
        pytest.param(lambda: dataclasses.replace(MANIFEST, model="other.onnx"), id="model that is not listed"),
        pytest.param(lambda: dataclasses.replace(MANIFEST, files=MANIFEST.files * 2), id="file listed twice"),
        pytest.param(lambda: dataclasses.replace(MANIFEST, format="pickle"), id="unknown format"),
        pytest.param(lambda: LogHistogram().quantile(0.5), id="quantile of nothing"),
        pytest.param(lambda: LogHistogram().add(-1), id="negative value"),
    ],
)
def test_a_value_that_breaks_its_invariant_cannot_be_made(make: Callable[[], object]) -> None:
    with pytest.raises(WireError):
        make()


@pytest.mark.parametrize("path", ["/etc/passwd", "a/../b", "./a", "a//b", "a\\b", "a b", "", "a/"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(WireError):
        DesiredModel(name="m", version="1", path=path, sha256=SHA, length=1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x02\0\0\0\0\0", id="format"),
        pytest.param(b"\x01\0\0\0\0\0\0", id="left over"),
        pytest.param(b"\x01\x80\x00\0\0\0\0", id="long spelling"),
        pytest.param(b"\x01\0\x05\x05\x05\x01\x00\x01", id="wrong bucket for its value"),
        pytest.param(b"\x01\0\x00\x05\x05\x01\x51\x01", id="sum below the least"),
        pytest.param(b"\x01\0\0\0\0\xff\xff\x7f", id="too many buckets"),
    ],
)
def test_a_histogram_that_contradicts_itself_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        LogHistogram.from_bytes(data)


def test_raw_shape_is_the_shape_in_the_order_of_the_raw_layout() -> None:
    assert MANIFEST.inputs[0].raw_shape == (-1, 100, 6)


def test_filters_of_a_fleet() -> None:
    assert fleet_filter(parse_topic("ep1/a/b/tele").leaf) == "ep1/+/+/tele"
    assert fleet_filter(parse_topic("ep1/a/b/cmd/resend").leaf) == "ep1/+/+/cmd/+"
