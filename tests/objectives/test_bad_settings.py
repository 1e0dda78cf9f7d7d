"""Settings that an objective refuses, one table for all: what is given, and what the message says."""

from __future__ import annotations

import re

import pytest
from cases import make

NAN, INF = float("nan"), float("inf")
WHOLE, POSITIVE = "must be a whole number of at least", "must be a (positive|finite) number"
BAD = [  # (kind, setting, values, what the message says)
    ("afn", "delta", (0, -1, NAN), "delta.* must be"),
    ("bi_tuning", "temperature", (0,), "must be"),
    ("bi_tuning", "projection_dim", (0,), "must be"),
    ("bi_tuning", "queue", (-1,), "must be"),
    ("bsp", "k", (0, -1, 1.5, True), "k=.* must be a whole number of at least 1"),
    ("bss", "k", (0, 1.5, True), "must be a whole number"),
    ("cdan", "random_dim", (0,), "must be"),
    ("cdan", "hidden", (0,), "must be"),
    ("cdann", "hidden", (0, 2.5), WHOLE),
    ("cdann", "depth", (-1,), WHOLE),
    ("cmd", "moments", (0, 2.5), "moments=.* must be a whole number of at least 1"),
    ("cmd", "interval", ("range",), "interval='range' must be 'batch', 'tanh' or two numbers"),
    ("cmd", "interval", ([1, 1], [0, 1, 2], [0, "1"]), "a < b"),
    ("cmd", "interval", ([0, INF],), "interval must be a finite number"),
    ("cmd", "interval", (3,), "interval=3 must be"),
    ("co_tuning", "relation", ("bayes",), "must be 'direct' or 'calibrated'"),
    ("coral", "mean_weight", (-1,), "mean_weight=-1 must be a number of at least 0"),
    ("coral", "mean_weight", (INF,), "mean_weight must be a finite number"),
    ("coral", "mean_weight", ("much", True), "mean_weight=('much'|True) must be"),
    ("dann", "sources", ("all",), "sources='all' must be 'joint' or 'each'"),
    ("dann", "hidden", (0, 2.5, True), WHOLE),
    ("dann", "depth", (-1,), WHOLE),
    ("deepjdot", "alpha", (-1,), "alpha=-1 must be a number of at least 0"),
    ("deepjdot", "label_weight", (NAN,), "label_weight must be a finite number"),
    ("deepjdot", "regularization", ("little",), "regularization='little' must be"),
    ("deepjdot", {"alpha": 0, "label_weight": 0}, (), "both 0"),
    ("delta", "layers", (-1,), "must be"),
    ("delta", "attention", (1,), "must be"),
    ("delta", "temperature", (0,), "must be"),
    ("dsan", "estimator", ("linear",), "'linear' must be 'biased' or 'unbiased'"),
    ("dsan", "bandwidth", ("max",), "bandwidth='max' must be 'mean', 'median' or a positive number"),
    ("dsan", "kernels", (True,), "kernels=True must be a whole number of at least 1"),
    ("im", "diversity", (0, -1, NAN, INF, True, "much"), f"diversity.* {POSITIVE}"),
    ("iwan", "hidden", (0,), WHOLE),
    ("iwan", "depth", (-1,), WHOLE),
    ("jan", "estimator", ("linear",), "'linear' must be 'unbiased' or 'biased'"),
    ("jan", "bandwidth", (0,), "bandwidth=0 must be 'mean', 'median' or a positive number"),
    ("jan", "prediction_bandwidth", ("max",), "prediction_bandwidth='max' must be 'mean', 'median' or a positive"),
    ("jan", "kernels", (0,), "kernels=0 must be a whole number of at least 1"),
    ("l2_sp", "alpha", (-1, True), "must be"),
    ("l2_sp", "beta", (NAN,), "must be"),
    ("l2_sp", "head", ("zero",), "must be"),
    ("m3sda", "moments", (0, 1.5, True), "moments=.* must be a whole number of at least 1"),
    ("mcc", "temperature", (0, -2, NAN, "hot", None), f"temperature.* {POSITIVE}"),
    ("mcd", "hidden", (0,), WHOLE),
    ("mcd", "depth", (-1,), WHOLE),
    ("mdd", "margin", (0,), "margin=0 must be a positive number"),
    ("mdd", "margin", (NAN,), "margin must be a finite number"),
    ("mdd", "hidden", (0,), "hidden=0 must be a whole number"),
    ("mdd", "classes", (1,), "num_classes=1 must be a whole number of at least 2"),
    ("mmd", "estimator", ("cubic",), "'cubic' must be 'unbiased', 'biased' or 'linear'"),
    ("mmd", "bandwidth", ("max", 0, True), "('max'|0|True) must be 'mean', 'median' or a positive number"),
    ("mmd", "bandwidth", (INF,), "bandwidth must be a finite number"),
    ("mmd", "kernels", (0, 2.5), "kernels=.* must be a whole number of at least 1"),
    ("mmd", "queue", (-1,), "queue=-1 must be a whole number of at least 0"),
    ("mmd_rff", "estimator", ("linear",), "'linear' must be 'unbiased' or 'biased'"),
    ("mmd_rff", "bandwidth", (-1.0,), "bandwidth=-1.0 must be 'mean', 'median' or a positive number"),
    ("mmd_rff", "kernels", (0,), "kernels=0 must be a whole number of at least 1"),
    ("mmd_rff", "frequencies", (4, 64.0), "frequencies=.* must be a whole number of at least 5"),
    ("nt_xent", "temperature", (-1, "hot"), "must be"),
    ("nt_xent", "projection_dim", (-1,), "must be"),
    ("nt_xent", "queue", (-1, 1.5), "must be"),
    ("nt_xent", "chunk", (True,), "must be"),
    ("osbp", "boundary", (0, 1.0, "half"), "boundary=.* must be a number between 0 and 1"),
    ("osbp", "hidden", (0,), "hidden=0 must be a whole number"),
    ("prototype", "decay", (1.0, -0.1, True), "decay=.* must be at least 0 and below 1"),
    ("prototype", "threshold", (1.5, "high"), "threshold=.* must be between 0 and 1"),
    ("prototype", "distance", ("manhattan",), "distance='manhattan' must be 'squared' or 'cosine'"),
    ("prototype", "temperature", (0,), "temperature=0 must be a positive number or nothing"),
    ("rkd", "distance", (-1,), "must be a number"),
    ("rkd", "angle", (INF,), "angle must be a finite number"),
    ("rkd", "angle_rows", (2,), "at least 3"),
    ("rkd", "rows", ("both",), "rows='both' must be"),
    ("rkd", {"distance": 0, "angle": 0}, (), "compares nothing"),
    ("supcon", "temperature", (0, NAN), "must be"),
    ("supcon", "threshold", (1.5, -0.1, "high"), "must be"),
    ("supcon", "queue", (-1,), "must be"),
    ("supcon", "chunk", (-1, 2.5), "must be"),
    ("swd", "projections", (0,), "projections=0 must be a whole number of at least 1"),
    ("swd", "order", (3, True, 1.5), "order=.* must be 1 or 2"),
    ("vat", "xi", (0, "small"), "must be"),
    ("vat", "eps", (-1, NAN), "must be"),
    ("vat", "iterations", (0,), "must be"),
    ("mixup", "alpha", (0, -1, NAN, "small"), "must be"),
    ("wdgrl", "penalty", (0,), "penalty=0 must be a positive number"),
    ("wdgrl", "hidden", (0,), "hidden=0 must be a whole number"),
]


@pytest.mark.parametrize("kind", sorted({kind for kind, *_ in BAD}))
def test_bad_settings(kind):
    for _, name, values, message in (row for row in BAD if row[0] == kind):
        for settings in [{name: value} for value in values] or [name]:
            with pytest.raises(ValueError) as refused:  # noqa: PT011
                make(kind, **settings)
            assert re.search(message, str(refused.value)), settings
