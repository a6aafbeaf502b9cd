from __future__ import annotations

import pytest

from edgepe.stages.speed import Race


@pytest.mark.parametrize(
    ("us", "slower"),
    [
        pytest.param((13.0, 12.0, 11.0), True, id="every round"),
        pytest.param((13.0, 12.0, 10.0), False, id="one round disagrees"),
        pytest.param((10.4, 10.3, 10.2), False, id="within the noise"),
        pytest.param((5.0, 6.0, 5.5), False, id="faster"),
    ],
)
def test_an_artifact_is_slower_where_every_round_says_so(us: tuple[float, ...], *, slower: bool) -> None:
    assert Race(us=us, float_us=(10.0, 10.0, 10.0)).slower is slower


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    raced = Race(us=(10.0, 12.0, 40.0), float_us=(10.0, 10.0, 10.0))
    assert raced.ratio == pytest.approx(1.2)
    assert raced.to_json()["ratio"] == raced.ratio
