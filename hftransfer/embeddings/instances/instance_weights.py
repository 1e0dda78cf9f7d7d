"""Instance weights: what each source row counts, so that the weighted source stands for the target."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ...setting_ranges import SEED
from ...settings import read_choice
from ..feature_arrays import domain_matrices
from .domain_classifier import cross_fitted_log_odds, ratios_of
from .kernel_mean_matching import kernel_mean_matching
from .kliep import kliep
from .relative_ratio import rulsif
from .weight_corrections import corrected_weights, refuse_few_rows

Method = Literal["discriminator", "kmm", "kliep", "rulsif"]
ESTIMATORS = {"kmm": kernel_mean_matching, "kliep": kliep, "rulsif": rulsif}
LEAST_ERROR = 0.05  # of a classifier of domains, on source and target together: a proxy A-distance of 1.9


def instance_weights(
    source_features: ArrayLike,
    target_features: ArrayLike,
    method: Method = "discriminator",
    clip: float | None = 10.0,
    flatten: float = 0.5,
    seed: int = 0,
    **settings: Any,
) -> np.ndarray:
    r"""Importance weights of source rows for a target with other inputs, from features alone.

    An estimate of \(p_T(x)/p_S(x)\), then three corrections: mean 1, capped at `clip`, raised to the power `flatten`
    and scaled to mean 1 again. Features are standardised first, both domains together. They go into a classifier's
    `sample_weight`, or into a column `weight` of the source for `AdaptationTrainer`.

    Args:
        source_features, target_features: (n, d) and (m, d), of one model.
        method: `"discriminator"`, a cross-fitted logistic regression that tells the domains apart, for any number of
            columns; or for a few columns `"rulsif"` (relative density ratio by least squares, bounded), `"kmm"`
            (kernel mean matching) or `"kliep"` (kernels fitted by likelihood).
        clip: cap in units of the mean weight; `None` for none.
        flatten: τ between 0 (all rows alike) and 1 (as estimated).
        seed: of folds, centres and blocks.
        **settings: of `kernel_mean_matching`, `kliep` or `rulsif`, such as `bandwidth`.

    Returns:
        (n,) weights with mean 1.

    Raises:
        ValueError: the domains hardly overlap: a classifier of domains errs on less than 2.5 % of held-out rows, or
            the weights, before they are capped and flattened, have an effective sample size below 10 % of the source
            rows. Features that do not fit together or are not finite; an unknown method or setting.

    Papers: those of the estimates; Shimodaira 2000 for flattening.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> source, target = draw.normal(size=(400, 2)), draw.normal(size=(300, 2)) + [1, 0]
        >>> weights = instance_weights(source, target, flatten=1.0)
        >>> bool(np.average(source[:, 0], weights=weights) > 0.7)
        True
    """
    method, seed = read_choice("method", method, Method), int(SEED.read("seed", seed))
    source, target = domain_matrices(source_features, target_features)
    source, target = _standardised(source, target)
    log_odds = cross_fitted_log_odds(source, target, seed)
    _refuse_apart(log_odds, len(source))
    if method == "discriminator":
        if settings:
            raise ValueError(f"method='discriminator' has no setting {next(iter(settings))!r}.")
        weights = ratios_of(log_odds, len(source), len(target))[: len(source)]
    else:
        weights = _estimate(method, source, target, seed, settings)
    refuse_few_rows(weights)
    return corrected_weights(weights, clip, flatten)


def _estimate(method: str, source: np.ndarray, target: np.ndarray, seed: int, settings: dict[str, Any]) -> np.ndarray:
    import inspect

    estimator: Any = ESTIMATORS[method]
    known = [name for name in inspect.signature(estimator).parameters if not name.endswith("_features")]
    unknown = next((name for name in settings if name not in known), None)
    if unknown is not None:
        raise ValueError(f"method={method!r} has no setting {unknown!r}; its settings are {', '.join(known)}.")
    return np.asarray(estimator(source, target, seed=seed, **settings))


def _standardised(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of mean 0 and variance 1 over both domains together; constant columns become 0."""
    rows = np.concatenate([source, target])
    centre, scale = rows.mean(0), rows.std(0)
    scale[scale == 0] = 1.0
    return (source - centre) / scale, (target - centre) / scale


def _refuse_apart(log_odds: np.ndarray, source_rows: int) -> None:
    """Check that a classifier of domains errs now and then; raises `ValueError`.

    A kernel estimate does not show it: with many columns all its weights are alike, and without overlap wrong.
    """
    target_rows = len(log_odds) - source_rows
    is_target = ratios_of(log_odds, source_rows, target_rows) > 1
    errors = is_target[:source_rows].mean() + (~is_target[source_rows:]).mean()
    if errors < LEAST_ERROR:
        raise ValueError(
            f"instance_weights: source and target do not overlap: a classifier tells {100 * (1 - errors / 2):.1f} % "
            "of held-out rows apart by these features, so no source row stands for the target. Leave weights out and "
            "align the domains instead, or use features in which they overlap."
        )
