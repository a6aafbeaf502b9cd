"""What must hold of the wire for every value and every byte."""

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.wire.canonical import canonical, parse_document
from device_agent.wire.control import FrameReader, decode_control, encode_frame
from device_agent.wire.errors import WireError
from device_agent.wire.histogram import ALPHA, LogHistogram
from device_agent.wire.limits import MAX_INTEGER
from device_agent.wire.manifest import decode_manifest
from device_agent.wire.topics import Leaf, Topics, parse_topic
from tests.wire_samples import CONTROLS, DECODERS, golden_bytes, reencode

if TYPE_CHECKING:
    from collections.abc import Callable

VALUES = st.lists(st.integers(0, MAX_INTEGER) | st.integers(0, 10**7), max_size=60)
IDS = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), inner)
    ),
    max_leaves=12,
)
GOLDEN = golden_bytes()
JSON_NAMES = sorted(name for name in GOLDEN if name.endswith(".json"))
ALL_DECODERS: list[Callable[[bytes], object]] = [
    *DECODERS.values(),
    decode_manifest,
    decode_control,
    LogHistogram.from_bytes,
    lambda data: FrameReader().feed(data),
    lambda data: parse_topic(data.decode("latin-1")),
]


def histogram_of(values: list[int]) -> LogHistogram:
    found = LogHistogram()
    found.add_many(values)
    return found


@given(VALUES, VALUES)
def test_the_merge_is_the_histogram_of_the_union(left: list[int], right: list[int]) -> None:
    merged = histogram_of(left)
    merged.merge(histogram_of(right))
    assert merged == histogram_of(left + right)
    assert merged.to_bytes() == histogram_of(right + left).to_bytes()


@given(VALUES)
def test_a_histogram_survives_its_bytes(values: list[int]) -> None:
    found = histogram_of(values)
    assert LogHistogram.from_bytes(found.to_bytes()) == found
    assert LogHistogram.from_base64(found.to_base64()) == found
    assert (found.count, found.sum) == (len(values), sum(values))


@given(st.lists(st.integers(0, MAX_INTEGER), min_size=1, max_size=80), st.floats(0, 1))
def test_a_quantile_is_within_alpha_of_the_exact_one(values: list[int], q: float) -> None:
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    assert abs(histogram_of(values).quantile(q) - exact) <= (ALPHA + 1e-9) * exact


@pytest.mark.parametrize("decode", ALL_DECODERS)
@given(data=st.binary(max_size=300))
def test_a_decoder_raises_nothing_but_a_wire_error_on_any_bytes(decode: Callable[[bytes], object], data: bytes) -> None:
    with contextlib.suppress(WireError):
        decode(data)


@pytest.mark.parametrize("name", JSON_NAMES)
@settings(max_examples=60)
@given(data=st.data())
def test_a_decoder_raises_nothing_but_a_wire_error_on_a_document_with_a_changed_value(
    name: str, data: st.DataObject
) -> None:
    value = json.loads(GOLDEN[name])
    place = value
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not (isinstance(place[key], dict) and place[key] and data.draw(st.booleans())):
            break
        place = place[key]
    place[key] = data.draw(PLAIN)
    with contextlib.suppress(WireError):
        reencode(name, json.dumps(value).encode())


@pytest.mark.parametrize("name", sorted(GOLDEN))
@given(cut=st.integers(0, 4000))
def test_a_cut_document_is_a_wire_error(name: str, cut: int) -> None:
    data = GOLDEN[name]
    with pytest.raises(WireError):
        reencode(name, data[: cut % len(data)])


@given(PLAIN)
def test_canonical_bytes_read_back_to_the_same_value(value: object) -> None:
    data = canonical(value)
    assert parse_document(data, limit=len(data), what="value") == value
    assert canonical(parse_document(data, limit=len(data), what="value")) == data


@given(st.lists(st.sampled_from(sorted(CONTROLS)), max_size=6), st.lists(st.integers(1, 50), min_size=1, max_size=20))
def test_frames_come_out_whole_however_the_stream_is_torn(kinds: list[str], cuts: list[int]) -> None:
    stream = b"".join(encode_frame(CONTROLS[kind]) for kind in kinds)
    reader, found, turn = FrameReader(), [], 0
    while stream:
        size = cuts[turn % len(cuts)]
        turn += 1
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert found == [CONTROLS[kind] for kind in kinds]


@given(IDS, IDS, st.sampled_from([leaf for leaf in Leaf if leaf is not Leaf.CMD]))
def test_a_topic_parses_back_to_its_parts(site: str, device: str, leaf: Leaf) -> None:
    topics = Topics(site=site, device=device)
    parsed = parse_topic(str(getattr(topics, leaf.value)))
    assert (parsed.site, parsed.device, parsed.leaf, parsed.command) == (site, device, leaf, None)
    assert parse_topic(topics.cmd("resend")).command == "resend"
