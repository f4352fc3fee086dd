from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType

import pytest


def test_the_table_is_what_the_script_makes_of_the_wheel(
    cpu_threads_script: ModuleType, cpu_threads_wheel: Path
) -> None:
    made = cpu_threads_script.rows(cpu_threads_wheel)
    text = cpu_threads_script.TABLE.read_text(encoding="utf-8")
    shipped = list(csv.reader(line for line in text.splitlines() if not line.startswith("#")))
    assert tuple(shipped[0]) == cpu_threads_script.COLUMNS
    assert [tuple(row) for row in shipped[1:]] == made
    assert text == cpu_threads_script.render(made)
    assert len(made) == 1770


def test_the_header_names_wheel_version_hash_licence_and_script(cpu_threads_script: ModuleType) -> None:
    head = cpu_threads_script.TABLE.read_text(encoding="utf-8").partition("\nname,")[0]
    for needed in (
        cpu_threads_script.WHEEL,
        "0.1.0",
        cpu_threads_script.SHA256,
        "MIT",
        "make_cpu_threads.py",
    ):
        assert needed in head


def test_threads_are_read_from_the_column_with_both_counts(
    cpu_threads_script: ModuleType, cpu_threads_wheel: Path
) -> None:
    rows = {row[0]: row[1:] for row in cpu_threads_script.rows(cpu_threads_wheel)}
    assert rows["EPYC 7302"] == ("16", "32", "155")
    assert rows["Atom Z500"] == ("1", "1", "1")


def test_another_file_is_refused(cpu_threads_script: ModuleType, tmp_path: Path) -> None:
    other = tmp_path / "other.whl"
    other.write_bytes(b"something else")
    with pytest.raises(ValueError, match="SHA-256"):
        cpu_threads_script.rows(other)


def test_main_writes_the_table(
    cpu_threads_script: ModuleType,
    cpu_threads_wheel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cpu_threads_script, "ROOT", tmp_path)
    monkeypatch.setattr(cpu_threads_script, "TABLE", tmp_path / "made.csv")
    cpu_threads_script.main(["--wheel", str(cpu_threads_wheel)])
    assert capsys.readouterr().out == "made.csv: 1770 chips\n"
    assert (tmp_path / "made.csv").read_text(encoding="utf-8").startswith("# Cores, hardware threads")
