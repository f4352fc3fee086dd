from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.carbon.server import Server, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    with serving() as one:
        yield one
