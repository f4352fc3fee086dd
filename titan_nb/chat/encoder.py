"""What turns texts into embeddings."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

__all__ = ["Encoder"]


@runtime_checkable
class Encoder(Protocol):
    """A function from n texts to n embeddings; any callable of this shape will do.

    titan ships none and downloads none. ``SentenceTransformer(...).encode`` is one, and so is a function of
    your own.
    """

    def __call__(self, texts: list[str], /) -> Any:
        """Return the embeddings of ``texts``, shape (n, d), as a tensor, an array or a list of lists."""
        ...
