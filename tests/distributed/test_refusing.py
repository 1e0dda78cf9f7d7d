"""A run that is refused is refused on every process, and none waits for another."""

from __future__ import annotations

import pytest
import refusing
from processes import together


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refused")
    together(refusing.work, str(folder), log=folder / "log")
    return folder


@pytest.mark.parametrize("case", refusing.CASES)
def test_both_processes_say_why(done, case):
    for rank in (0, 1):
        assert refusing.CASES[case][0] in (done / case / f"said.{rank}").read_text()
