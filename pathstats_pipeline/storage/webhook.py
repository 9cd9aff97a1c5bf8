"""One POST of JSON to a webhook. Its URL is a secret: no error names more of it than the host."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

TIMEOUT_SECONDS: Final = 5.0
"""For the connection, and for each piece of the answer."""


class WebhookError(RuntimeError):
    """A message was not taken; one line."""


def post(url: str, message: Mapping[str, object], *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """Send a message; raises WebhookError when the server can't be reached, or answers with anything but success."""
    host = urlsplit(url).hostname or "its host"
    try:
        request = urllib.request.Request(  # noqa: S310 - settings take http and https only
            url,
            json.dumps(message).encode(),
            {"Content-Type": "application/json; charset=utf-8", "User-Agent": "pathstats"},
        )
        with urllib.request.urlopen(request, timeout=timeout_seconds):  # noqa: S310 - the same
            return
    except urllib.error.HTTPError as error:
        error.close()
        raise WebhookError(f"the alarm webhook at {host} answers {error.code}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        # The cause may hold the URL.
        text = " ".join(str(reason).replace(url, "…").split()) or type(reason).__name__
        raise WebhookError(f"the alarm webhook at {host} can't be reached: {text}") from None
