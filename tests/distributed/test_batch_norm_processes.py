"""Processes agree on batch norm's statistics, and estimate the target's together as one process would."""

from __future__ import annotations

import batch_norm_worker
import blobs
import pytest
import torch
from processes import forked
from safetensors.torch import load_file

from hftransfer import adapt_batch_norm


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("batch-norm")
    assert forked(batch_norm_worker.work, str(path), processes=2, log=path / "log") == 0, (path / "log").read_text()
    return path


def of_both(folder, name: str) -> list[dict[str, torch.Tensor]]:
    return [load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1)]


def test_after_training_all_processes_have_the_same_statistics(folder):
    """Each saw its own rows only; the mean of both is kept, evaluated and saved."""
    first, second = of_both(folder, "trained")
    assert first.keys() == second.keys()
    start = blobs.resnet()
    for name, value in first.items():
        assert torch.equal(value, second[name])
        assert not torch.equal(value, start.get_buffer(name))


def test_the_mean_is_taken_over_processes(folder):
    for found in of_both(folder, "averaged"):
        assert all(torch.equal(value, torch.full_like(value, 2.0)) for value in found.values())


def test_all_processes_choose_the_same_channels(folder):
    """Under stochastic normalisation, in both steps; another choice each time."""
    first, second = of_both(folder, "stochastic")
    assert first.keys() == second.keys() == {"chosen.0", "chosen.1", "step"}
    assert first["step"] == 2
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not torch.equal(first["chosen.0"], first["chosen.1"])


def test_two_processes_estimate_what_one_does_on_the_same_batches(folder):
    model = blobs.resnet()
    assert adapt_batch_norm(model, batch_norm_worker.parts()) == 23
    for found in of_both(folder, "adapted"):
        for name, value in found.items():
            torch.testing.assert_close(value, model.get_buffer(name), rtol=1e-5, atol=1e-6)
