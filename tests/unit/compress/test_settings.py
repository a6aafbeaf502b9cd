from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgepe.compress import Budget, GateSettings, TrainSettings
from edgepe.errors import CompressError

if TYPE_CHECKING:
    from collections.abc import Callable

TRAIN = TrainSettings(epochs=1, rate=0.1)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: TrainSettings(epochs=0, rate=0.1), id="no-epochs"),
        pytest.param(lambda: TrainSettings(epochs=1, rate=0.0), id="no-rate"),
        pytest.param(lambda: TrainSettings(epochs=1, rate=0.1, batch=1), id="batch-of-one"),
        pytest.param(lambda: TrainSettings(epochs=1, rate=0.1, label_smoothing=1.0), id="all-smoothing"),
        pytest.param(lambda: Budget(parameters=0.0), id="nothing-left"),
        pytest.param(lambda: Budget(parameters=1.5), id="more-than-all"),
        pytest.param(lambda: Budget(parameters=0.5, round_to=0), id="round-to-nothing"),
        pytest.param(lambda: GateSettings(train=TRAIN, warmup=1.0), id="only-warm-up"),
        pytest.param(lambda: GateSettings(train=TRAIN, beta=0.0), id="no-kl"),
        pytest.param(lambda: GateSettings(train=TRAIN, growth=-1.0), id="shrinking"),
        pytest.param(lambda: GateSettings(train=TRAIN, every=0), id="never"),
        pytest.param(lambda: GateSettings(train=TRAIN, rate=-1.0), id="negative-gate-rate"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_where_it_is_made(make: Callable[[], object]) -> None:
    with pytest.raises(CompressError, match="makes no sense"):
        make()
