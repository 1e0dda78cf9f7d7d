"""Frozen layers read from the cache on two processes: they share the pass, and the losses are those of one."""

from __future__ import annotations

import json

import cache_worker
import numpy as np
import pytest
from processes import together


@pytest.mark.slow
def test_two_processes_share_the_pass_and_lose_what_one_loses(tmp_path, monkeypatch):
    monkeypatch.setenv("HFTRANSFER_CACHE", "")  # the worker sets its own; here it is put back
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    together(cache_worker.work, str(two), timeout=240, log=two / "log")
    cache_worker.train(one, "none", 8)
    want, got = (json.loads((folder / "found.json").read_text()) for folder in (one, two))
    assert got["off"] == ""
    np.testing.assert_allclose(got["losses"], want["losses"], rtol=0, atol=1e-5)
    computed = [computed for computed, _ in got["counts"]]
    assert sum(computed) == 48
