from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.energy.sensors.nvml_stand_in import Nvml
from titan_nb.energy.sensors.nvml_session import NvmlSession


@pytest.fixture
def nvml() -> Nvml:
    return Nvml()


@pytest.fixture
def session(nvml: Nvml) -> Iterator[NvmlSession]:
    session = NvmlSession.join(nvml)
    yield session
    session.leave()
