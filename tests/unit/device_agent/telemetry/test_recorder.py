"""Nothing that happened is lost or counted twice."""

from __future__ import annotations

import threading

from device_agent.telemetry.recorder import FOLD_AT, Recorder


def test_what_was_recorded_is_handed_out_once() -> None:
    recorder = Recorder()
    recorder.record(1000, (2, 2, 0))
    recorder.record(3000)
    recorder.record_error()
    first, second = recorder.take(), recorder.take()
    assert (first.inferences, first.errors) == (2, 1)
    assert (first.latency.count, first.latency.sum) == (2, 4000)
    assert first.output_counts == ((0, 1), (2, 2))
    assert (second.inferences, second.errors, second.latency.count, second.output_counts) == (0, 0, 0, ())


def test_samples_are_folded_before_they_fill_memory() -> None:
    recorder = Recorder()
    for _ in range(FOLD_AT + 1):
        recorder.record(500)
    assert len(recorder._waiting) == 1
    assert recorder.take().latency.count == FOLD_AT + 1


def test_several_threads_and_a_reader_lose_nothing() -> None:
    recorder, seen = Recorder(), []

    def work() -> None:
        for number in range(2000):
            recorder.record(number, (1,))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen.append(recorder.take())
    seen.append(recorder.take())
    assert sum(part.inferences for part in seen) == 8000
    assert sum(part.latency.count for part in seen) == 8000
    assert sum(dict(part.output_counts).get(1, 0) for part in seen) == 8000
