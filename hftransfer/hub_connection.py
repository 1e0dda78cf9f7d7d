"""Connection to the Hub, tested once, so that nobody waits for a client's retries."""

from __future__ import annotations

import functools
import os
import socket
from urllib.parse import urlsplit


@functools.cache
def hub_reachable() -> bool:
    """Whether the Hub can be reached: `hub_answers`, asked once a process."""
    return hub_answers()


def hub_answers(timeout: float = 3.0) -> bool:
    """Whether the Hub's host takes a connection within `timeout` seconds."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    address = urlsplit(constants.ENDPOINT)
    if any(os.environ.get(k) for k in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # a proxy resolves names that this machine cannot
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        with socket.create_connection((address.hostname or "", port), timeout=timeout):
            return True
    except OSError:
        return False
