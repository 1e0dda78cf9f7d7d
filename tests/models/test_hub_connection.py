"""Connection to the Hub: asked of the host and port that the endpoint names."""

from __future__ import annotations

import socket

import pytest
from huggingface_hub import constants

from hftransfer.hub_connection import hub_answers


@pytest.fixture
def online(monkeypatch):
    """No proxy, not offline; the connections that are asked for, and which of them are taken."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return monkeypatch


def test_a_host_that_listens_answers_and_a_closed_port_does_not(online):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        online.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        assert hub_answers(timeout=1)
        online.setattr(constants, "HF_HUB_OFFLINE", True)
        assert not hub_answers(timeout=1)
        online.setattr(constants, "HF_HUB_OFFLINE", False)
    assert not hub_answers(timeout=1)
    online.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    assert hub_answers(timeout=1)


def test_host_and_port_are_the_endpoint_s(online):
    asked = []

    def refuse(address, timeout):
        asked.append(address)
        raise OSError

    online.setattr(socket, "create_connection", refuse)
    for endpoint in ("https://hub.example", "http://hub.example", "https://hub.example:8443/mirror"):
        online.setattr(constants, "ENDPOINT", endpoint)
        assert not hub_answers()
    assert asked == [("hub.example", 443), ("hub.example", 80), ("hub.example", 8443)]
