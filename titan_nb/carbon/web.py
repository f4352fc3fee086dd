"""One JSON document from the network, or the reason why there is none in words for the user."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["NoAnswer", "get_json"]

TIMEOUT_SECONDS = 10.0
_LARGEST_BYTES = 1 << 20


class NoAnswer(Exception):  # noqa: N818 - it never leaves the room
    """A provider gave nothing that can be used; the message says why, without any key."""


def get_json(url: str, headers: Mapping[str, str], timeout: float = TIMEOUT_SECONDS) -> Any:
    """Return what ``url`` answers, read as JSON.

    No redirect is followed: the key in the headers is meant for this one host.

    Args:
        url: The address.
        headers: Extra headers, such as the key.
        timeout: Longest wait in seconds for the connection, for each piece and for the whole text.

    Raises:
        NoAnswer: If there is no answer in time, or it is no JSON.
    """
    import http.client
    import urllib.error
    import urllib.request

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: Any) -> None:
            return None

    try:
        request = urllib.request.Request(url, headers={"Accept": "application/json", **headers})  # noqa: S310 - see the callers
        with urllib.request.build_opener(NoRedirect).open(request, timeout=timeout) as response:
            text = _read(response, time.monotonic() + timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in {401, 403}:
            raise NoAnswer(f"it refused the key (HTTP {error.code})") from None
        raise NoAnswer(f"it answered HTTP {error.code}") from None
    except TimeoutError:
        raise NoAnswer(f"it did not answer within {timeout:g} s") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise NoAnswer(f"it did not answer within {timeout:g} s") from None
        raise NoAnswer(f"it cannot be reached ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"the connection broke ({type(error).__name__})") from None
    except ValueError:  # a header or an address that cannot be sent; its text would show the key
        raise NoAnswer("the request cannot be sent: look at the key") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise NoAnswer("it answered with something that is not JSON") from None


def _read(response: Any, deadline: float) -> bytes:
    """Return the whole text, of at most `_LARGEST_BYTES`, and no later than ``deadline``."""
    text = bytearray()
    while piece := response.read1(1 << 16):
        text += piece
        if len(text) > _LARGEST_BYTES:
            raise NoAnswer("its answer is too long")
        if time.monotonic() > deadline:
            raise TimeoutError
    return bytes(text)
