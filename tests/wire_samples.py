"""One message of each kind with every field set: what golden bytes and property tests start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from device_agent.wire import control
from device_agent.wire.canonical import document
from device_agent.wire.histogram import LogHistogram
from device_agent.wire.manifest import (
    FileEntry,
    Golden,
    Manifest,
    MetricClaim,
    OpRow,
    Preprocess,
    RuntimeFloor,
    TensorSpec,
    decode_manifest,
)
from device_agent.wire.messages import (
    ActiveModel,
    Birth,
    Command,
    Desired,
    DesiredModel,
    Event,
    Gate,
    Hardware,
    ModelTelemetry,
    Reply,
    Reported,
    ReportedModel,
    Signature,
    SignedDesired,
    State,
    Status,
    Telemetry,
    Window,
    decode_birth,
    decode_command,
    decode_event,
    decode_reply,
    decode_reported,
    decode_signed_desired,
    decode_status,
    decode_telemetry,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from device_agent.wire.messages import Message

TIME_MS = 1_790_000_000_000
SHA = "0123456789abcdef" * 4


def histogram() -> LogHistogram:
    found = LogHistogram()
    found.add_many([0, 1, 900, 1_000, 105_000, 106_000, 2_500_000])
    return found


ACTIVE = ActiveModel(name="watch", version="1.2", sha256=SHA, target="raspberry-pi-5")

MESSAGES: dict[str, Message] = {
    "status": Status(online=True, boot=7, session="a1b2"),
    "birth": Birth(
        device="pi-7",
        site="lab",
        boot=7,
        session="a1b2",
        agent_version="0.1.0",
        target="raspberry-pi-5",
        hardware=Hardware(
            machine="aarch64", model="Raspberry Pi 5", cores=4, ram_bytes=8 << 30, isa=("asimd", "asimddp")
        ),
        runtimes=(("onnxruntime", "1.23.2"),),
        models=(ACTIVE,),
        rev=12,
        previous_boot=6,
        previous_seq=900,
        time_ms=TIME_MS,
    ),
    "desired": SignedDesired.of(
        Desired(
            rev=13,
            device="pi-7",
            expires_ms=TIME_MS + 86_400_000,
            models=(
                DesiredModel(
                    name="watch", version="2", path="targets/watch/2/raspberry-pi-5.edge", sha256=SHA, length=34_567
                ),
            ),
            urls=("http://127.0.0.1:8000/repository",),
            deadline_ms=TIME_MS + 3_600_000,
            window=Window(start_ms=TIME_MS, end_ms=TIME_MS + 7_200_000),
            gate=Gate(max_p99_us=5_000, max_rss_bytes=200 << 20, max_errors_permille=1, soak_ms=5_000),
        ),
        (Signature(keyid=SHA, sig="ab" * 64),),
    ),
    "reported": Reported(
        device="pi-7",
        boot=7,
        rev=13,
        models=(
            ReportedModel(
                name="watch",
                rev=13,
                state=State.FAILED,
                attempt=2,
                percent=41,
                code="digest_mismatch",
                detail="Other bytes, höher.",
                active=ACTIVE,
                previous=None,
            ),
        ),
        time_ms=TIME_MS,
    ),
    "tele": Telemetry(
        device="pi-7",
        boot=7,
        seq=3,
        start_ms=TIME_MS,
        duration_ms=10_000,
        rss_bytes=24 << 20,
        cpu_percent_x100=125,
        temperature_mc=51_200,
        dropped=2,
        models=(
            ModelTelemetry(
                name="watch",
                version="1.2",
                inferences=7,
                errors=1,
                rss_bytes=61 << 20,
                latency=histogram(),
                outputs=(("run", 2), ("walk", 5)),
            ),
        ),
    ),
    "event": Event(
        device="pi-7",
        boot=7,
        number=4,
        time_ms=TIME_MS,
        kind="desired_refused",
        model="watch",
        code="bad_signature",
        detail="No trusted key signed this document.",
        previous=SHA,
    ),
    "cmd": Command(name="resend", id="c-1", expires_ms=TIME_MS + 60_000, arguments=(("boot", "6"), ("from", "1"))),
    "reply": Reply(id="c-1", code="unknown_boot", detail="There is no boot 6.", result=(("rows", "0"),)),
}

DECODERS: dict[str, Callable[[bytes], Message]] = {
    "status": decode_status,
    "birth": decode_birth,
    "desired": decode_signed_desired,
    "reported": decode_reported,
    "tele": decode_telemetry,
    "event": decode_event,
    "cmd": decode_command,
    "reply": decode_reply,
}

MANIFEST = Manifest(
    name="watch",
    version="1.2",
    target="raspberry-pi-5",
    format="onnx",
    precision="mixed",
    model="model.onnx",
    files=(
        FileEntry(name="golden.npz", sha256=SHA, bytes=9_000),
        FileEntry(name="model.onnx", sha256=SHA, bytes=30_000),
    ),
    inputs=(
        TensorSpec(
            name="x",
            dtype="float32",
            shape=(-1, 6, 100),
            layout="NCW",
            preprocess=Preprocess(layout="NWC", scale=0.5, mean=(0.1, 0.2), std=(1.0, 2.5)),
        ),
    ),
    outputs=(TensorSpec(name="y", dtype="float32", shape=(-1, 3), layout="NC"),),
    labels=("sit", "walk", "run"),
    runtime=RuntimeFloor(name="onnxruntime", version="1.20"),
    ops=(OpRow(node="conv1", op="Conv", precision="int8", reason="target", detail="per channel"),),
    calibration_digest=SHA,
    profile_digest=SHA,
    metric=MetricClaim(
        name="accuracy",
        float_score=0.91,
        score=0.905,
        drop=0.5,
        low=-0.1,
        high=1.1,
        samples=800,
        scored_on="onnxruntime 1.31.1",
    ),
    predicted_latency_us=420,
    predicted_rss_bytes=60 << 20,
    baseline=(0.2, 0.5, 0.3),
    golden=Golden(file="golden.npz", count=16, atol=0.05, rtol=0.01, min_agree=0.95),
)

CONTROLS: dict[str, control.ControlMessage] = {
    "serve": control.Serve(),
    "drain": control.Drain(),
    "stats_request": control.StatsRequest(),
    "stop": control.Stop(),
    "ready": control.Ready(
        pid=4242,
        runtime="onnxruntime",
        runtime_version="1.31.1",
        load_us=21_000,
        first_run_us=900,
        rss_bytes=61 << 20,
    ),
    "stats": control.Stats(
        inferences=7, errors=1, latency=histogram(), rss_bytes=61 << 20, output_counts=(("walk", 5),)
    ),
    "drained": control.Drained(),
    "failed": control.Failed(code="model_refused", detail="The model's format is unknown."),
}


def golden_bytes() -> dict[str, bytes]:
    """Return file name → bytes of everything that is pinned."""
    found = {f"{kind}.json": encode(message) for kind, message in MESSAGES.items()}
    found["manifest.json"] = MANIFEST.encode()
    found["histogram.bin"] = histogram().to_bytes()
    for kind, message in CONTROLS.items():
        found[f"control_{kind}.json"] = document(message.to_json())
    return found


def reencode(name: str, data: bytes) -> bytes:
    """Decode the bytes of a golden file and encode them again."""
    stem = name.partition(".")[0]
    if name == "manifest.json":
        return decode_manifest(data).encode()
    if name == "histogram.bin":
        return LogHistogram.from_bytes(data).to_bytes()
    if stem.startswith("control_"):
        return document(control.decode_control(data).to_json())
    return encode(DECODERS[stem](data))
