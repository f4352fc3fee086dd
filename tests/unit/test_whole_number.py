from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from titan_nb.whole_number import whole_number


@pytest.mark.parametrize("value", [3, np.int8(3), np.array(3), torch.tensor(3)])
def test_whole_numbers_of_each_kind_are_integers(value: Any) -> None:
    assert type(whole_number(value, 3)) is int
    assert whole_number(value, 3) == 3
    assert whole_number(value, 4) is None


@pytest.mark.parametrize("value", [True, False, 3.0, "3", None, np.array([3, 4]), torch.tensor(3.0)])
def test_everything_else_is_none(value: Any) -> None:
    assert whole_number(value, 0) is None
