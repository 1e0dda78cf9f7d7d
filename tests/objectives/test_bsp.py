"""Batch spectral penalisation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cases import batch, call, domains, make


def test_value_is_the_definition():
    for settings, (n, m) in itertools.product(({}, {"k": 2}, {"k": 5}, {"k": 50}), ((7, 5), (3, 9), (1, 1))):
        k = settings.get("k", 1)
        inputs = batch(n, m)
        expected = sum((np.linalg.svd(x, compute_uv=False)[:k] ** 2).sum() for x in domains(inputs))
        assert call(make("bsp", **settings), inputs).item() == pytest.approx(expected, rel=1e-5), (k, n, m)
