"""A run that is refused is refused on every process, and none waits for another."""

from __future__ import annotations

import pytest
import refusing
from processes import forked


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refused")
    assert forked(refusing.train, str(folder / "run"), processes=2, log=folder / "log") == 0, (
        folder / "log"
    ).read_text()
    return folder / "run"


@pytest.mark.parametrize("case", refusing.CASES)
def test_both_processes_say_why(done, tmp_path, case):
    folder = done if "resume" in refusing.CASES[case][1] else tmp_path / "run"
    said, log = tmp_path / "said", tmp_path / "log"
    assert forked(refusing.refuse, str(folder), case, str(said), processes=2, log=log) == 0, log.read_text()
    for rank in (0, 1):
        assert refusing.CASES[case][0] in (tmp_path / f"said.{rank}").read_text()
