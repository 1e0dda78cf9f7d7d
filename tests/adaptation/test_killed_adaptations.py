"""An adaptation that is killed without notice goes on to the same verdict and the same bits."""

from __future__ import annotations

import killing_adaptations
import pytest
import tiny_shift
from processes import KILLED, forked

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The model, and the folder of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    model, log = tiny_shift.save_model(folder), folder / "log"
    assert forked(killing_adaptations.adapt, model, str(folder / "mine"), timeout=1200, log=log) == 0, log.read_text()[
        -6000:
    ]
    return model, folder / "mine"


@pytest.mark.parametrize(("moment", "n"), killing_adaptations.drawn().items(), ids=str)
def test_a_killed_run_goes_on_to_the_same_end(whole, tmp_path, moment, n):
    model, unbroken = whole
    folder, log = tmp_path / "mine", tmp_path / "log"
    assert forked(killing_adaptations.adapt, model, str(folder), moment, n, timeout=1200, log=log) == KILLED, (
        log.read_text()[-6000:]
    )
    handed_over = (folder / "config.json").exists()
    assert not handed_over or (folder / "model.safetensors").exists()
    assert forked(killing_adaptations.adapt, model, str(folder), timeout=1200, log=log) == 0, log.read_text()[-6000:]
    assert tiny_shift.result_of(folder) == tiny_shift.result_of(unbroken)
    names = sorted(path.relative_to(unbroken) for path in unbroken.rglob("*.safetensors"))
    assert len(names) == 5
    assert sorted(path.relative_to(folder) for path in folder.rglob("*.safetensors")) == names
    for name in names:
        assert (folder / name).read_bytes() == (unbroken / name).read_bytes(), name
    assert {path.name for path in folder.iterdir()} == {path.name for path in unbroken.iterdir()}
    assert not list(folder.glob("_candidates/*/checkpoint-*"))
