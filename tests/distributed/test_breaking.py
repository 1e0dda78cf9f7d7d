"""What one of two processes finds wrong stops both, at once and with the same words."""

from __future__ import annotations

import breaking
import pytest
from processes import forked

SAID = {
    "weights": "FloatingPointError: classifier.weight holds values that are not finite after step 4; checkpoint-4",
    "disk": "DiskFullError: There is no room for checkpoint-4",
    "lock": "FolderInUse: ",
    "foreign": "FileExistsError: ",
}


@pytest.mark.parametrize("case", SAID)
def test_both_stop(tmp_path, case):
    log = tmp_path / "log"
    assert forked(breaking.run, str(tmp_path), case, processes=2, log=log) == 0, log.read_text()[-6000:]
    told = [(tmp_path / f"told_{rank}").read_text() for rank in (0, 1)]
    assert all(one.startswith(SAID[case]) for one in told), told
    saved = sorted(path.name for path in (tmp_path / "run").iterdir())
    if case in ("weights", "disk"):
        assert all(f"The last good checkpoint is {tmp_path / 'run' / 'checkpoint-2'}" in one for one in told)
        assert saved == ["checkpoint-2"]
    else:
        assert saved == ["_writing" if case == "lock" else "README.md"]
