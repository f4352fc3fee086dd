"""The twins of the methods that wait, for cells that ``await``."""

from __future__ import annotations

from typing import Any

__all__ = ["Asynchronous"]


class Asynchronous:
    """Each method does in a thread what the one without ``_async`` does, and takes the same arguments."""

    async def add_async(self, *args: Any, **options: Any) -> Any:
        """Store items; see ``add``."""
        return await self._in_thread("add", *args, **options)

    async def search_async(self, *args: Any, **options: Any) -> Any:
        """Return the items most like a query; see ``search``."""
        return await self._in_thread("search", *args, **options)

    async def recall_async(self, *args: Any, **options: Any) -> Any:
        """Return the items most like a text; see ``recall``."""
        return await self._in_thread("recall", *args, **options)

    async def get_async(self, *args: Any, **options: Any) -> Any:
        """Return the items with these ids; see ``get``."""
        return await self._in_thread("get", *args, **options)

    async def update_async(self, *args: Any, **options: Any) -> Any:
        """Change one item; see ``update``."""
        return await self._in_thread("update", *args, **options)

    async def forget_async(self, *args: Any, **options: Any) -> Any:
        """Drop items; see ``forget``."""
        return await self._in_thread("forget", *args, **options)

    async def verify_async(self) -> Any:
        """Check all that is kept against its checksums; see ``verify``."""
        return await self._in_thread("verify")

    async def create_index_async(self) -> Any:
        """Build what the fast search needs on servers; see ``create_index``."""
        return await self._in_thread("create_index")

    async def compact_async(self) -> Any:
        """Give back the room of what was forgotten; see ``compact``."""
        return await self._in_thread("compact")

    async def save_async(self, *args: Any) -> Any:
        """Write the memory into a folder; see ``save``."""
        return await self._in_thread("save", *args)

    async def _in_thread(self, name: str, *args: Any, **options: Any) -> Any:
        import asyncio  # loaded already where something awaits, and slow to load where nothing does

        return await asyncio.to_thread(getattr(self, name), *args, **options)
