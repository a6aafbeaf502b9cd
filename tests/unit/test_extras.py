from __future__ import annotations

import pytest

from edgepe.errors import MissingExtraError
from edgepe.extras import needs_extra


def test_a_missing_foreign_module_names_the_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'edgepe\[torch\]'"), needs_extra("torch", wanted_by="x"):
        raise ModuleNotFoundError("No module named 'torch._C'", name="torch._C")


def test_a_missing_module_of_our_own_is_a_bug_and_passes() -> None:
    with pytest.raises(ModuleNotFoundError), needs_extra("torch", wanted_by="x"):
        raise ModuleNotFoundError("No module named 'edgepe.nothing'", name="edgepe.nothing")
