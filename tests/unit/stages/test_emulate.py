from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgepe.data import dataset
from edgepe.metrics import Comparison
from edgepe.stages.emulate import Emulation, spread
from edgepe.verify.emulate import Agreement

GOOD = Agreement(samples=8, agree=1.0, max_error=0.0, mean_error=0.0, exact=1.0, needed=0.85)
BAD = replace(GOOD, agree=0.5)
SAME = Comparison(
    metric="accuracy", float_score=0.9, score=0.9, drop=0.0, low=0.0, high=0.0, samples=200, method="normal"
)
EMULATION = Emulation(ran_on="arm", stand_in="host", golden=GOOD, outputs=GOOD, score=SAME)


@pytest.mark.parametrize(
    ("emulation", "held"),
    [
        pytest.param(EMULATION, True, id="the-same"),
        pytest.param(replace(EMULATION, outputs=None, score=None), True, id="golden-vectors-alone"),
        pytest.param(replace(EMULATION, golden=BAD), False, id="golden-vectors-differ"),
        pytest.param(replace(EMULATION, outputs=BAD), False, id="outputs-differ"),
        pytest.param(replace(EMULATION, score=replace(SAME, low=-0.5, high=1.5)), True, id="within-the-interval"),
        pytest.param(replace(EMULATION, score=replace(SAME, low=0.5, high=1.5)), False, id="a-worse-score"),
        pytest.param(replace(EMULATION, score=replace(SAME, low=-1.5, high=-0.5)), True, id="a-better-score"),
        pytest.param(replace(EMULATION, score=replace(SAME, low=1e-4, high=2e-4)), True, id="another-order-of-sums"),
    ],
)
def test_a_claim_holds_where_arm_gives_what_the_stand_in_gives(emulation: Emulation, *, held: bool) -> None:
    assert emulation.held is held


def test_samples_are_spread_over_the_set() -> None:
    data = dataset({"x": np.arange(101.0)[:, None]}, np.arange(101))
    few = spread(data, 3)
    assert few.inputs["x"].ravel().tolist() == [0, 50, 100]
    assert few.labels is not None
    assert few.labels.tolist() == [0, 50, 100]
    assert len(spread(data, 500)) == 101
    assert spread(dataset({"x": np.ones((5, 1))}), 1).labels is None
