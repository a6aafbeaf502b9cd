from __future__ import annotations

import pytest

from edgepe.scheme import OpScheme, Precision, Reason


def test_one_operator_cannot_be_mixed() -> None:
    with pytest.raises(ValueError, match="one precision"):
        OpScheme(node="n", op="Conv", precision=Precision.MIXED, reason=Reason.TARGET_RULE)
