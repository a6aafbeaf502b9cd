"""Run TFLite bytes in a child process, where an abort of LiteRT's is a test's failure and not pytest's end."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

__all__ = ["LiteRt", "litert_child"]

PATHS = ("xnnpack", "builtin")


def invoke(content: bytes, feeds: Mapping[str, NDArray[Any]], path: str, times: int) -> list[dict[str, NDArray[Any]]]:
    """Run the file's one signature several times in a row; runs in the child."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: PLC0415  # only the child needs LiteRT

    types = {"xnnpack": OpResolverType.AUTO, "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=types[path], num_threads=1)
    runner = interpreter.get_signature_runner("serving_default")
    return [{name: array.copy() for name, array in runner(**feeds).items()} for _ in range(times)]


class LiteRt:
    """A child that runs TFLite files."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor

    def run(
        self, content: bytes, feeds: Mapping[str, NDArray[Any]], *, path: str = "xnnpack", times: int = 1
    ) -> list[dict[str, NDArray[Any]]]:
        """Return the outputs of each of ``times`` invokes in a row."""
        return self._executor.submit(invoke, content, dict(feeds), path, times).result(timeout=60)


@contextmanager
def litert_child() -> Iterator[LiteRt]:
    """Start the child, and end it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield LiteRt(executor)
