"""The encoders that titan can run by itself, and the names of all others.

None of them downloads anything: the models come inside packages that pip installs.
"""

from __future__ import annotations

__all__: list[str] = []
