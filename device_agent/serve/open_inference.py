"""The Open Inference Protocol v2 (KServe, Triton) over one model: its required REST endpoints, tensors in JSON.

::

    GET  /v2                                      server metadata
    GET  /v2/health/live, /v2/health/ready
    GET  /v2/models/M[/versions/V]                model metadata, in terms of the raw inputs
    GET  /v2/models/M[/versions/V]/ready
    POST /v2/models/M[/versions/V]/infer

Rules kept here:
1. A client sends what its sensor gives: raw values, which the manifest's preprocessing turns into the model's.
2. A client's fault is 4xx with ``{"error"}``, the model's is 5xx; both leave the worker serving.
3. Where the manifest has labels, the response's parameters carry the winning one: ``label``, or ``label.0``,
   ``label.1``, … for a batch.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NoReturn

from device_agent import __version__
from device_agent.errors import ExplainedError, ModelError
from device_agent.runtime.engine import winners
from device_agent.serve.http import Response, error_response
from device_agent.serve.tensors import datatype_of, from_json, read_tensor, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from device_agent.runtime.base import Array
    from device_agent.runtime.engine import Engine
    from device_agent.serve.http import Request
    from device_agent.wire.manifest import Manifest, TensorSpec

__all__ = ["OpenInference"]

SERVER_NAME = "edgepe-agent"
PLATFORMS = {"onnx": "onnx_onnxv1", "tflite": "tflite_tflite"}
MAX_ID_CHARS = 256


class OpenInference:
    """Answers the protocol's requests with one engine."""

    def __init__(self, engine: Engine) -> None:
        manifest = engine.manifest
        self._engine = engine
        base = f"/v2/models/{manifest.name}"
        bases = (base, f"{base}/versions/{manifest.version}")
        self._pages = pages(manifest, bases)
        self._infer_paths = {f"{path}/infer" for path in bases}

    def answer_now(self, request: Request) -> Response | None:
        """Answer health and metadata, and refuse what is not there; ``None`` for an inference."""
        if request.path in self._infer_paths:
            return None if request.method == "POST" else not_allowed("POST")
        page = self._pages.get(request.path)
        if page is None:
            manifest = self._engine.manifest
            return error_response(
                HTTPStatus.NOT_FOUND,
                f"{request.path[:200]} is not here; served is model {manifest.name} version {manifest.version}",
            )
        return page if request.method == "GET" else not_allowed("GET")

    def answer(self, request: Request) -> Response:
        """Answer an inference."""
        try:
            body = parse_body(request.body)
            feeds = self._engine.prepare(read_inputs(body))
            wanted = read_outputs(body, self._engine.manifest.outputs)
        except ExplainedError as error:
            return error_response(HTTPStatus.BAD_REQUEST, str(error))
        try:
            outputs = self._engine.run(feeds)
        except ModelError as error:
            return error_response(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
        return json_response(self._document(body, outputs, wanted))

    def _document(
        self, body: Mapping[str, Any], outputs: Mapping[str, Array], wanted: Sequence[str]
    ) -> dict[str, object]:
        manifest = self._engine.manifest
        document: dict[str, object] = {"model_name": manifest.name, "model_version": manifest.version}
        if "id" in body:
            document["id"] = body["id"]
        parameters = label_parameters(manifest, outputs)
        if parameters:
            document["parameters"] = parameters
        document["outputs"] = [to_json(name, outputs[name]) for name in wanted]
        return document


def pages(manifest: Manifest, bases: Sequence[str]) -> dict[str, Response]:
    """Render every answer that does not depend on the request; a worker listens only once its model is ready."""
    rendered = {
        "/v2": json_response({"name": SERVER_NAME, "version": __version__, "extensions": []}),
        "/v2/health/live": json_response({"live": True}),
        "/v2/health/ready": json_response({"ready": True}),
    }
    for base in bases:
        rendered[base] = json_response(model_metadata(manifest))
        rendered[f"{base}/ready"] = json_response({"name": manifest.name, "ready": True})
    return rendered


def model_metadata(manifest: Manifest) -> dict[str, object]:
    """Return the protocol's model metadata; shapes are those of the raw inputs."""
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": PLATFORMS[manifest.format],
        "inputs": [tensor_metadata(spec) for spec in manifest.inputs],
        "outputs": [tensor_metadata(spec) for spec in manifest.outputs],
    }


def tensor_metadata(spec: TensorSpec) -> dict[str, object]:
    """Return the protocol's description of a tensor."""
    return {"name": spec.name, "datatype": datatype_of(spec.dtype), "shape": list(spec.raw_shape)}


def parse_body(body: bytes) -> dict[str, Any]:
    """Parse an inference request's body.

    Raises:
        ModelError: It is no JSON object, or its id is no short string.
    """
    try:
        document = json.loads(body, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ModelError("The body is not JSON.", got=str(error)[:200]) from error
    if not isinstance(document, dict):
        raise ModelError("The body is not a JSON object.")
    name = document.get("id", "")
    if not isinstance(name, str) or len(name) > MAX_ID_CHARS:
        raise ModelError("The request's id is wrong.", expected=f"a string of at most {MAX_ID_CHARS} characters")
    return document


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and infinity, which Python's parser would take.

    Raises:
        ValueError: Always; the caller of ``json.loads`` catches it.
    """
    raise ValueError(f"{name} is not JSON")


def read_inputs(body: Mapping[str, Any]) -> dict[str, Array]:
    """Read the request's tensors by name.

    Raises:
        ModelError: One is malformed, or stands twice.
    """
    inputs = body.get("inputs")
    if not isinstance(inputs, list):
        raise ModelError("The request has no inputs.", expected="a list of {name, shape, datatype, data}")
    tensors = [read_tensor(value) for value in inputs]
    arrays = {tensor.name: from_json(tensor) for tensor in tensors}
    if len(arrays) != len(tensors):
        raise ModelError("An input stands twice.", got=[tensor.name for tensor in tensors])
    return arrays


def read_outputs(body: Mapping[str, Any], specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """Return the names of the outputs that the client wants: those it lists, else all.

    Raises:
        ModelError: It lists one that the model does not have.
    """
    known = tuple(spec.name for spec in specs)
    listed = body.get("outputs")
    if not listed:
        return known
    rows = listed if isinstance(listed, list) else [listed]
    names = [row.get("name") if isinstance(row, dict) else row for row in rows]
    if not all(name in known for name in names):
        raise ModelError("The request wants outputs that the model does not have.", expected=list(known), got=names)
    return tuple(str(name) for name in names)


def label_parameters(manifest: Manifest, outputs: Mapping[str, Array]) -> dict[str, object]:
    """Return the winning label of each sample (rule 3)."""
    first = outputs[manifest.outputs[0].name]
    if not manifest.labels or first.shape[-1:] != (len(manifest.labels),):
        return {}
    names = [manifest.labels[winner] for winner in winners({manifest.outputs[0].name: first})]
    return {"label": names[0]} if len(names) == 1 else {f"label.{at}": name for at, name in enumerate(names)}


def json_response(document: Mapping[str, object]) -> Response:
    """Return a 200 with a JSON document."""
    return Response(status=HTTPStatus.OK, body=json.dumps(document, allow_nan=False, separators=(",", ":")).encode())


def not_allowed(method: str) -> Response:
    """Return a 405 that names the right method."""
    return error_response(HTTPStatus.METHOD_NOT_ALLOWED, f"use {method}", (("Allow", method),))
