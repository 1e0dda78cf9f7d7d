"""What one of two processes finds wrong stops both, at once and with the same words."""

from __future__ import annotations

import breaking
import pytest
from processes import together

SAID = {
    "weights": "FloatingPointError: classifier.weight holds values that are not finite after step 4; checkpoint-4",
    "disk": "DiskFullError: There is no room for checkpoint-4",
    "lock": "FolderInUse: ",
    "foreign": "FileExistsError: ",
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A folder with all runs."""
    folder = tmp_path_factory.mktemp("broken")
    together(breaking.work, str(folder), log=folder / "log")
    return folder


@pytest.mark.parametrize("case", SAID)
def test_both_stop(broken, case):
    folder = broken / case
    told = [(folder / f"told_{rank}").read_text() for rank in (0, 1)]
    assert all(one.startswith(SAID[case]) for one in told), told
    saved = sorted(path.name for path in (folder / "run").iterdir())
    if case in ("weights", "disk"):
        assert all(f"The last good checkpoint is {folder / 'run' / 'checkpoint-2'}" in one for one in told)
        assert saved == ["checkpoint-2"]
    else:
        assert saved == ["_writing" if case == "lock" else "README.md"]
