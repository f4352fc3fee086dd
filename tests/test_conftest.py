"""What the common rules of `conftest.py` do to tests that are left out."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SAMPLE = """
import pytest

@pytest.mark.skip(reason="no time")
def test_skipped(): ...

@pytest.mark.xfail(strict=True, reason="known")
def test_expected_to_fail():
    assert False

@pytest.mark.gpu
@pytest.mark.skip(reason="no GPU")
def test_gpu(): ...

def test_runs(): ...
"""


@pytest.mark.parametrize(("ci", "skipped", "errors"), [("true", 1, 1), ("", 2, 0)])
def test_ci_allows_no_skip_but_gpu(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, skipped: int, errors: int
) -> None:
    monkeypatch.setenv("CI", ci)
    pytester.makeini("[pytest]\nmarkers = gpu: needs a GPU")
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
    pytester.makepyfile(SAMPLE)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, skipped=skipped, errors=errors, xfailed=1)


def test_ci_allows_no_module_to_be_skipped(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
    pytester.makepyfile("import pytest\npytest.importorskip('no_such_module_here')")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*In CI only tests marked gpu may be.*"])
