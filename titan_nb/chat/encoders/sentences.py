"""Models of sentence-transformers, and what else has a method ``encode``."""

from __future__ import annotations

import hashlib
import inspect
from typing import Any

__all__ = ["SentenceEncoder", "model_name"]

_PACKAGE = "sentence_transformers"
_SAMPLE = 1024


class SentenceEncoder:
    """Calls a model's ``encode``, without progress bars.

    Args:
        model: The model.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, texts: list[str]) -> Any:
        """Return what the model makes of the texts."""
        quiet = {"show_progress_bar": False} if _has_bar(self.model.encode) else {}
        return self.model.encode(texts, **quiet)


def _has_bar(encode: Any) -> bool:
    try:
        return "show_progress_bar" in inspect.signature(encode).parameters
    except (TypeError, ValueError):  # written in C, without a signature
        return False


def model_name(model: Any) -> str | None:
    """Return the name of a model of sentence-transformers, with its revision where that is known.

    Returns:
        The name; for a model that was put together without one, a fingerprint of its first numbers; None for
        every other object.
    """
    if not any(kind.__module__.partition(".")[0] == _PACKAGE for kind in type(model).__mro__):
        return None
    for part in model.children():
        # The transformer inside is called one or the other, by version.
        inner = getattr(part, "auto_model", None) or getattr(part, "model", None)
        config = getattr(inner, "config", None)
        name = getattr(config, "_name_or_path", None)
        if isinstance(name, str) and name:
            revision = getattr(config, "_commit_hash", None)
            return f"{name}@{revision[:8]}" if isinstance(revision, str) else name
    card = getattr(model, "model_card_data", None)
    name = getattr(card, "model_id", None) or getattr(card, "base_model", None)
    return name if isinstance(name, str) else f"{_PACKAGE}#{_sample(model)}"


def _sample(model: Any) -> str:
    digest = hashlib.sha256()
    numbers = next(iter(model.parameters()), None)
    if numbers is not None:
        digest.update(repr(tuple(numbers.shape)).encode())
        digest.update(numbers.detach().flatten()[:_SAMPLE].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:8]
