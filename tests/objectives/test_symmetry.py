"""What moves an objective's value and what does not; that like domains neither score nor push; that weights undo a
shift of classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import CLASSES, WIDTH, call
from kernel_cases import shifted_labels
from moment_cases import collapsed, gradients
from variants import FEATURES, VARIANTS, build, confident

ROTATION = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1)).double())[0]
COLUMNS, RENAMED = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([2, 0, 1])
DOMAINS, WHAT = ("source", "target"), ("features", "logits")
LOGITS = ("source_logits", "target_logits")


def each(names, change):
    return lambda inputs: {name: change(inputs[name]) for name in names}


def ramp(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    return torch.linspace(low, high, len(x), dtype=x.dtype).unsqueeze(1)


CHANGES = {
    "translation": each(FEATURES, lambda x: x + 300),
    "rotation": each(FEATURES, lambda x: x @ ROTATION.to(x.dtype)),
    "sign": each(FEATURES, lambda x: -x),
    "coordinates": each(FEATURES, lambda x: x[:, COLUMNS]),
    "scale": each(FEATURES, lambda x: 50 * x),
    "length": each(FEATURES, lambda x: x * ramp(x, 1, 3)),
    "swapped": lambda b: {f"{a}_{w}": b[f"{c}_{w}"] for a, c in (DOMAINS, DOMAINS[::-1]) for w in WHAT},
    "logits": each(LOGITS, lambda z: z + ramp(z, 0, 5)),
    "classes": lambda b: (
        {n: b[n][:, RENAMED] for n in LOGITS} | {"source_labels": RENAMED.argsort()[b["source_labels"]]}
    ),
}
# What changes nothing, by variant; everything else does. A variant that is not named has none.
DISTANCES = ("translation", "rotation", "sign", "coordinates")
ANGLES = ("rotation", "sign", "coordinates", "scale", "length")
OF_CLASSES = ("logits", "classes")
SAME = {
    **dict.fromkeys(("mmd", "mmd biased", "mmd median", "mmd linear"), (*DISTANCES, "scale", "swapped")),
    **dict.fromkeys(("mmd_rff", "mmd_rff biased"), ("translation", "sign", "scale", "swapped")),
    **dict.fromkeys(("jan", "jan biased"), (*DISTANCES, "scale", "swapped", *OF_CLASSES)),
    **dict.fromkeys(("dsan", "dsan unbiased"), (*DISTANCES, "scale", *OF_CLASSES)),
    **dict.fromkeys(("coral", "coral with means"), (*DISTANCES, "swapped")),
    "cmd": ("translation", "sign", "coordinates", "scale", "swapped"),
    "cmd tanh": ("sign", "coordinates", "swapped"),
    "cmd fixed interval": ("translation", "sign", "coordinates", "swapped"),
    **dict.fromkeys(("swd", "swd order 1"), ("translation", "sign", "swapped")),
    **dict.fromkeys(("deepjdot", "deepjdot sinkhorn"), (*DISTANCES, *OF_CLASSES)),
    **dict.fromkeys(("m3sda", "m3sda four moments"), ("sign", "coordinates", "swapped")),
    **dict.fromkeys(("cdan", "cdan randomized", "cdan_e", "cdan_e randomized", "cdann", "mdd"), ("logits",)),
    "wdgrl linear": ("translation",),
    **dict.fromkeys(("prototype", "prototype by class", "prototype of all rows"), (*DISTANCES, *OF_CLASSES)),
    "prototype contrast": (*DISTANCES, *OF_CLASSES),
    "prototype cosine contrast": ("rotation", "sign", "coordinates", "scale", *OF_CLASSES),
    **dict.fromkeys((v for v in VARIANTS if v.startswith("supcon")), (*ANGLES, *OF_CLASSES)),
    "nt_xent plain": ANGLES,
    **dict.fromkeys(("mcc", "bnm", "entropy", "im"), OF_CLASSES),
    "afn": ("translation", *ANGLES, "swapped"),
    **dict.fromkeys(("bsp", "bsp three values"), ("rotation", "sign", "coordinates", "swapped")),
    **dict.fromkeys(("bss", "bss three values"), ("rotation", "sign", "coordinates", "swapped")),
    **dict.fromkeys(("rkd", "rkd distances"), (*DISTANCES, "scale")),
    "lwf": ("translation", *ANGLES, "logits"),  # features are those of an old head, if there is one
    **dict.fromkeys(("distill_logits", "distill the target's logits"), ("logits",)),
    **dict.fromkeys((v for v in VARIANTS if v.startswith(("fixmatch", "mean_teacher"))), ("logits",)),
    "co_tuning": ("classes",),
    "constraint": ("logits",),
    "soft_labels": ("logits",),
    "constraint implications": ("logits", "swapped"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_changes_the_value(variant):
    """In float64, and to rounding in fp32: far from the origin, too."""
    inputs = {dtype: confident(6, 6, dtype=dtype) for dtype in (torch.float64, torch.float32)}
    read = set(build(variant).inputs.values())
    read |= {f"{domain}_{name}" for domain in DOMAINS for name in read & set(WHAT)}
    for name, change in CHANGES.items():
        for dtype, before in inputs.items():
            if not read & set(after := change(before)):
                continue
            value, changed = (call(build(variant).to(dtype), b).item() for b in (before, {**before, **after}))
            if name in SAME.get(variant, ()):
                rel, least = (1e-6, 1e-9) if dtype is torch.float64 else (1e-3, 3e-5)
                assert changed == pytest.approx(value, rel=rel, abs=least), (name, dtype)
            elif dtype is torch.float64:
                assert changed != pytest.approx(value, rel=1e-4), name


LIKE = ("mmd biased", "mmd_rff biased", "jan biased", "dsan", "coral", "coral with means", "cmd", "cmd tanh")
LIKE += ("cmd fixed interval", "swd", "m3sda", "m3sda four moments")


@pytest.mark.parametrize("variant", LIKE)
def test_equal_domains_score_0_and_do_not_push(variant):
    for width in (6, 40):
        inputs = confident(6, 6, width=width)
        order = torch.tensor([5, 3, 0, 4, 1, 2])
        for name in WHAT:
            inputs[f"target_{name}"] = inputs[f"source_{name}"].detach()[order].clone().requires_grad_()
        inputs["source_labels"] = inputs["source_logits"].argmax(1)
        if variant == "dsan":  # rows certain of their labels
            sure = 30.0 * torch.nn.functional.one_hot(inputs["source_labels"], CLASSES)
            inputs |= {"source_logits": sure, "target_logits": sure[order]}
        value = call(build(variant, width=width), inputs)
        assert value.item() == pytest.approx(0, abs=1e-6), width
        assert max(g.abs().max() for g in gradients(value, inputs)) < 1e-5, width


KERNELS = ("mmd", "mmd biased", "mmd linear", "mmd median", "mmd_rff", "mmd_rff biased")


@pytest.mark.parametrize("variant", [*KERNELS, *LIKE[4:-1]])
def test_collapsed_rows_do_not_push(variant):
    """Rows that are all the same have no gradient, on whatever side of the origin; rounding must not pass for a
    distance. A norm's gradient has length 1 at any distance above 0."""
    for scale in (0.0, 1.0, 100.0, 1e4):
        for n, m in ((16, 16), (13, 7)):
            inputs = collapsed(n, m, scale)
            value = call(build(variant, width=64), inputs)
            exact = variant.startswith(("cmd", "m3sda"))
            assert value.item() == pytest.approx(0, abs=0 if exact else 1e-5 * max(1, scale)), (scale, n)
            assert max(g.abs().max() for g in gradients(value, inputs)) <= (0 if exact else 1e-3), (scale, n)


SHIFTED = {
    **dict.fromkeys(("mmd", "mmd biased", "mmd_rff", "jan", "coral with means", "swd"), 0.1),
    **dict.fromkeys(("cmd", "m3sda", "deepjdot"), 0.3),
}


@pytest.mark.parametrize("variant", SHIFTED)
def test_right_weights_undo_a_label_shift(variant):
    """Classes that look alike in both domains, 3 : 1 in the source and 1 : 3 in the target."""
    values = []
    for seed in range(4):
        rows = 400
        x, w, y, z = shifted_labels(rows, seed)
        inputs = {"source_features": x, "target_features": y, "source_logits": z[:rows], "target_logits": z[rows:]}
        inputs |= {"source_domains": torch.zeros(rows, dtype=torch.long), "source_labels": z[:rows].argmax(1)}
        module = build(variant, width=4, classes=2, **({"label_weight": 0.0} if variant == "deepjdot" else {}))
        values.append([call(module, inputs, source_weights=weights).item() for weights in (w, torch.ones(rows))])
    corrected, plain = np.mean(values, axis=0)
    assert abs(corrected) < SHIFTED[variant] * plain
