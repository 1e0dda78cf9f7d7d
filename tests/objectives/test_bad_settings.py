"""Settings that an objective refuses, one table for all: what is given, and what the message says."""

from __future__ import annotations

import re

import pytest
from cases import make

BAD = {  # kind: (what the message says, and settings that have it) ...
    "afn": [("must be", {"delta": 0}, {"delta": -1}, {"delta": float("nan")})],
    "bi_tuning": [("must be", {"temperature": 0}, {"projection_dim": 0}, {"queue": -1})],
    "bsp": [("k=.* must be a whole number of at least 1", {"k": 0}, {"k": -1}, {"k": 1.5}, {"k": True})],
    "bss": [("must be a whole number", {"k": 0}, {"k": 1.5}, {"k": True})],
    "cdan": [("must be", {"random_dim": 0}, {"hidden": 0})],
    "cdann": [("must be a whole number of at least", {"hidden": 0}, {"depth": -1}, {"hidden": 2.5})],
    "cmd": [
        ("moments=0 must be a whole number of at least 1", {"moments": 0}),
        ("moments=2.5 must be a whole number", {"moments": 2.5}),
        ("interval='range' must be 'batch', 'tanh' or two numbers", {"interval": "range"}),
        ("a < b", {"interval": [1, 1]}, {"interval": [0, 1, 2]}, {"interval": [0, "1"]}),
        ("interval must be a finite number", {"interval": [0, float("inf")]}),
        ("interval=3 must be", {"interval": 3}),
    ],
    "co_tuning": [("must be 'direct' or 'calibrated'", {"relation": "bayes"})],
    "coral": [
        ("mean_weight=-1 must be a number of at least 0", {"mean_weight": -1}),
        ("mean_weight must be a finite number", {"mean_weight": float("inf")}),
        ("mean_weight='much' must be", {"mean_weight": "much"}),
        ("mean_weight=True must be", {"mean_weight": True}),
    ],
    "dann": [
        ("sources='all' must be 'joint' or 'each'", {"sources": "all"}),
        ("must be a whole number of at least", {"hidden": 0}, {"hidden": 2.5}, {"depth": -1}, {"hidden": True}),
    ],
    "deepjdot": [
        ("alpha=-1 must be a number of at least 0", {"alpha": -1}),
        ("label_weight must be a finite number", {"label_weight": float("nan")}),
        ("regularization='little' must be", {"regularization": "little"}),
        ("both 0", {"alpha": 0, "label_weight": 0}),
    ],
    "delta": [("must be", {"layers": -1}, {"attention": 1}, {"temperature": 0})],
    "dsan": [
        ("'linear' must be 'biased' or 'unbiased'", {"estimator": "linear"}),
        ("bandwidth='max' must be 'mean', 'median' or a positive number", {"bandwidth": "max"}),
        ("kernels=True must be a whole number of at least 1", {"kernels": True}),
    ],
    "im": [
        (
            "diversity.* must be a (positive|finite) number",
            {"diversity": 0},
            {"diversity": -1},
            {"diversity": float("nan")},
            {"diversity": float("inf")},
            {"diversity": True},
            {"diversity": "much"},
        )
    ],
    "iwan": [("must be a whole number of at least", {"hidden": 0}, {"depth": -1})],
    "jan": [
        ("'linear' must be 'unbiased' or 'biased'", {"estimator": "linear"}),
        ("bandwidth=0 must be 'mean', 'median' or a positive number", {"bandwidth": 0}),
        ("prediction_bandwidth='max' must be 'mean', 'median' or a positive number", {"prediction_bandwidth": "max"}),
        ("kernels=0 must be a whole number of at least 1", {"kernels": 0}),
    ],
    "l2_sp": [("must be", {"alpha": -1}, {"beta": float("nan")}, {"alpha": True}, {"head": "zero"})],
    "m3sda": [("moments=.* must be a whole number of at", {"moments": 0}, {"moments": 1.5}, {"moments": True})],
    "mcc": [
        (
            "temperature.* must be a (positive|finite) number",
            {"temperature": 0},
            {"temperature": -2},
            {"temperature": float("nan")},
            {"temperature": "hot"},
            {"temperature": None},
        )
    ],
    "mcd": [("must be a whole number of at least", {"hidden": 0}, {"depth": -1})],
    "mdd": [
        ("margin=0 must be a positive number", {"margin": 0}),
        ("margin must be a finite number", {"margin": float("nan")}),
        ("hidden=0 must be a whole number", {"hidden": 0}),
        ("num_classes=1 must be a whole number of at least 2", {"classes": 1}),
    ],
    "mmd": [
        ("'cubic' must be 'unbiased', 'biased' or 'linear'", {"estimator": "cubic"}),
        ("'max' must be 'mean', 'median' or a positive number", {"bandwidth": "max"}),
        ("0 must be", {"bandwidth": 0}),
        ("True must be", {"bandwidth": True}),
        ("bandwidth must be a finite number", {"bandwidth": float("inf")}),
        ("kernels=0 must be a whole number of at least 1", {"kernels": 0}),
        ("kernels=2.5 must be a whole number", {"kernels": 2.5}),
        ("queue=-1 must be a whole number of at least 0", {"queue": -1}),
    ],
    "mmd_rff": [
        ("'linear' must be 'unbiased' or 'biased'", {"estimator": "linear"}),
        ("bandwidth=-1.0 must be 'mean', 'median' or a positive number", {"bandwidth": -1.0}),
        ("kernels=0 must be a whole number of at least 1", {"kernels": 0}),
        ("frequencies=4 must be a whole number of at least 5", {"frequencies": 4}),
        ("frequencies=64.0 must be a whole number", {"frequencies": 64.0}),
    ],
    "nt_xent": [
        (
            "must be",
            {"temperature": -1},
            {"temperature": "hot"},
            {"projection_dim": -1},
            {"queue": -1},
            {"queue": 1.5},
            {"chunk": True},
        )
    ],
    "osbp": [
        ("boundary=0 must be a number between 0 and 1", {"boundary": 0}),
        ("boundary=1.0 must be", {"boundary": 1.0}),
        ("boundary='half' must be", {"boundary": "half"}),
        ("hidden=0 must be a whole number", {"hidden": 0}),
    ],
    "prototype": [
        ("decay=1.0 must be at least 0 and below 1", {"decay": 1.0}),
        ("decay=-0.1 must be", {"decay": -0.1}),
        ("decay=True must be", {"decay": True}),
        ("threshold=1.5 must be between 0 and 1", {"threshold": 1.5}),
        ("threshold='high' must be between 0 and 1", {"threshold": "high"}),
        ("distance='manhattan' must be 'squared' or 'cosine'", {"distance": "manhattan"}),
        ("temperature=0 must be a positive number or nothing", {"temperature": 0}),
    ],
    "rkd": [
        ("must be a number", {"distance": -1}),
        ("angle must be a finite number", {"angle": float("inf")}),
        ("at least 3", {"angle_rows": 2}),
        ("rows='both' must be", {"rows": "both"}),
        ("compares nothing", {"distance": 0, "angle": 0}),
    ],
    "supcon": [
        (
            "must be",
            {"temperature": 0},
            {"temperature": float("nan")},
            {"threshold": 1.5},
            {"threshold": -0.1},
            {"threshold": "high"},
            {"queue": -1},
            {"chunk": -1},
            {"chunk": 2.5},
        )
    ],
    "swd": [
        ("projections=0 must be a whole number of at least 1", {"projections": 0}),
        ("order=3 must be 1 or 2", {"order": 3}),
        ("order=True must be 1 or 2", {"order": True}),
        ("order=1.5 must be 1 or 2", {"order": 1.5}),
    ],
    "vat": [("must be", {"xi": 0}, {"eps": -1}, {"eps": float("nan")}, {"iterations": 0}, {"xi": "small"})],
    "wdgrl": [
        ("penalty=0 must be a positive number", {"penalty": 0}),
        ("hidden=0 must be a whole number", {"hidden": 0}),
    ],
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_settings(kind):
    for message, *several in BAD[kind]:
        for settings in several:
            with pytest.raises(ValueError) as refused:  # noqa: PT011
                make(kind, **settings)
            assert re.search(message, str(refused.value)), settings
