"""Gaussian noise for statistics that leave a site, and the (ε, δ) that a library accounts for."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from scipy.special import ndtri

from ..extras import install_hint
from ..setting_ranges import SEED, Bounds

# Beyond these the accounting takes minutes and gigabytes, or is cruder than what it accounts for.
EPSILON = Bounds(
    0, 20, above=True, hint="A larger one promises next to nothing: publish without noise, or ask for less."
)
MULTIPLIER = Bounds(0.2, hint="Less noise promises next to nothing: publish without noise, or with more.")
DELTA = Bounds(1e-15, 1, below=True, hint="A common choice is well below one over the number of rows.")


def accountant() -> Any:
    """The module `dp_accounting`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import dp_accounting
        from dp_accounting import pld  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"Noise whose (ε, δ) is stated needs dp-accounting, which is not installed: {install_hint('privacy')}"
        ) from error
    return dp_accounting


def noise_multiplier(epsilon: float, delta: float) -> float:
    """Least noise multiplier, standard deviation over sensitivity, that gives (ε, δ).

    Raises:
        ImportError: dp-accounting is not installed.
    """
    library = accountant()
    return float(
        library.calibrate_dp_mechanism(library.pld.PLDAccountant, library.GaussianDpEvent, epsilon, delta, tol=1e-4)
    )


def spent_epsilon(multiplier: float, delta: float) -> float:
    """ε at δ of one Gaussian mechanism, by its privacy loss distribution: rounded upwards.

    Raises:
        ImportError: dp-accounting is not installed.
    """
    library = accountant()
    spent = library.pld.PLDAccountant()
    spent.compose(library.GaussianDpEvent(multiplier))
    return float(spent.get_epsilon(delta))


def read_noise(epsilon: Any, delta: Any, multiplier: Any) -> tuple[float, float, float] | None:
    """Noise multiplier, ε and δ of settings, two of which say the third; `None` where no noise is asked for.

    Raises:
        ValueError: a value out of its range, δ alone or missing, or both others.
        ImportError: dp-accounting is not installed.
    """
    if epsilon is None and multiplier is None:
        if delta is not None:
            raise ValueError(f"delta={delta!r} has no effect alone: give epsilon or noise_multiplier with it.")
        return None
    if epsilon is not None and multiplier is not None:
        raise ValueError("epsilon and noise_multiplier both say how much noise there is: give one of them.")
    if delta is None:
        name = "epsilon" if epsilon is not None else "noise_multiplier"
        raise ValueError(f"{name} needs delta, the chance that epsilon does not hold: well below one over the rows.")
    delta = DELTA.read("delta", delta)
    if epsilon is not None:
        multiplier = noise_multiplier(float(EPSILON.read("epsilon", epsilon)), delta)
    else:
        multiplier = float(MULTIPLIER.read("noise_multiplier", multiplier))
    return multiplier, spent_epsilon(multiplier, delta), delta


class Noise:
    """Source of standard Gaussian noise: the operating system's, or a seed for tests.

    Args:
        seed: whoever knows it can take the noise off; `None` for the operating system's secure source.
    """

    def __init__(self, seed: int | None = None):
        if seed is not None:
            seed = int(SEED.read("noise_seed", seed))
        self._draws = None if seed is None else np.random.default_rng(seed)
        self.source = "the operating system" if seed is None else f"seed {seed}: not private, for tests"

    def draw(self, *shape: int) -> np.ndarray:
        """Independent draws, float64."""
        if self._draws is not None:
            return self._draws.standard_normal(shape)
        count = int(np.prod(shape, dtype=np.int64))
        whole = np.frombuffer(os.urandom(8 * count), dtype=np.uint64) >> np.uint64(11)
        return ndtri((whole.astype(np.float64) + 0.5) * 2.0**-53).reshape(shape)

    def draw_symmetric(self, width: int) -> np.ndarray:
        """(width, width) draws of a symmetric matrix, isotropic in its Frobenius norm: variance 1 on the diagonal and
        1/2 beside it."""
        above = np.triu(self.draw(width, width), 1) / np.sqrt(2)
        return above + above.T + np.diag(self.draw(width))
