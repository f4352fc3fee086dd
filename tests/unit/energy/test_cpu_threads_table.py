from __future__ import annotations

from tests.unit.table_scripts import committed, load

script = load("make_cpu_threads")


def test_threads_are_read_from_the_column_with_both_counts() -> None:
    made = script.rows(script.TABLE.fetch())
    assert len(made) == 1770
    rows = {row[0]: row[1:] for row in made}
    assert rows["EPYC 7302"] == ("16", "32", "155")
    assert rows["Atom Z500"] == ("1", "1", "1")


def test_the_header_names_version_licence_and_source() -> None:
    comments, _ = committed(script.TABLE.path)
    for needed in ("version 0.1.0", "MIT", "techpowerup.com"):
        assert needed in comments
