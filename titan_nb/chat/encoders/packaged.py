"""Models that come as files inside an installed package."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from titan_nb.errors import ChatError

__all__ = ["fingerprint", "model_files"]

_SAMPLES = 16
_SAMPLE_BYTES = 2**16


def model_files(package: str, files: Sequence[str], readers: Sequence[str], remedy: str) -> list[Path]:
    """Return the paths of a model's files, without importing the package that they are in.

    Args:
        package: The package that carries them.
        files: Their paths within it.
        readers: The packages that read them.
        remedy: What to do where something is missing, as the end of a sentence.

    Raises:
        ChatError: If a package or a file is missing.
    """
    for name in (package, *readers):
        if find_spec(name) is None:
            raise ChatError(f"the package {name} is not installed: {remedy}")
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    paths = [Path(folder, file) for file in files for folder in folders[:1]]
    missing = [path.name for path in paths if not path.is_file()]
    if missing or len(paths) < len(files):
        raise ChatError(f"the package {package} has no {', '.join(missing or files)}: {remedy}")
    return paths


def fingerprint(paths: Sequence[Path]) -> str:
    """Return eight hexadecimal digits that differ where the size or a sample of the files differ.

    A sample, because reading all of a model takes longer than using it once; training a model again changes
    numbers everywhere in it.
    """
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with path.open("rb") as file:
            for sample in range(_SAMPLES):
                file.seek(max(0, size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:8]
