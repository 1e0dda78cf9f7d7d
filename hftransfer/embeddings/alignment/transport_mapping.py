"""Optimal-transport mapping of features: each source row goes where the transport plan takes it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.base import OneToOneFeatureMixin

from ...extras import install_hint
from ...setting_ranges import POSITIVE
from ...settings import read_choice
from ..label_arrays import label_array
from .feature_adapter import FeatureAdapter

Method = Literal["emd", "sinkhorn", "sinkhorn_classes", "linear"]
PIVOTS = 1_000_000  # of the simplex algorithm, at most
SCALINGS = 10_000  # of Sinkhorn's algorithm, at most; POT warns where they are too few


class TransportMapping(OneToOneFeatureMixin, FeatureAdapter):
    r"""Optimal-transport mapping: source rows moved to the mean of the target rows that a transport plan assigns them.

    \[s_i \mapsto \frac{\sum_j \gamma_{ij}\, t_j}{\sum_j \gamma_{ij}}, \qquad
      \gamma = \arg\min_{\gamma \in \Pi(1/n,\,1/m)} \sum_{ij} \gamma_{ij} \lVert s_i - t_j\rVert^2
      + \varepsilon \sum_{ij} \gamma_{ij} \log \gamma_{ij}\]

    Target rows stay as they are. Source rows that were not fitted move as the nearest fitted one does. The solvers are
    POT's (`ot.da`), with costs divided by the largest. A plan moves all of the source to all of the target: where
    class frequencies differ it moves rows into other classes. Cost: the plan has n · m entries.

    Args:
        method: `"emd"` (ε = 0), `"sinkhorn"`, `"sinkhorn_classes"` (a group penalty on top, that keeps rows of other
            classes from the same target rows; needs `y`), or `"linear"` (the map between the two Gaussians of the
            domains' means and covariances, without a plan).
        regularization: ε, in shares of the largest cost; for `"linear"` what is added to the diagonal of covariances.
        class_regularization: what the group penalty counts.

    Attributes:
        transport_: the fitted object of `ot.da`.

    Raises:
        ImportError: POT is missing.
        ValueError: see `FeatureAdapter.fit`; an unknown method, a number out of range, or no `y` where it is needed.

    Paper: Courty, Flamary, Tuia and Rakotomamonjy, Optimal Transport for Domain Adaptation, TPAMI 2017.

    Example:
        >>> source, target = np.eye(3), 10 + np.eye(3)
        >>> TransportMapping("emd").fit_transform(source, target=target)
        array([[11., 10., 10.],
               [10., 11., 10.],
               [10., 10., 11.]])
    """

    def __init__(self, method: Method = "sinkhorn", regularization: float = 0.05, class_regularization: float = 0.1):
        self.method = method
        self.regularization = regularization
        self.class_regularization = class_regularization

    def _fit(self, source: np.ndarray, y: np.ndarray | None, target: np.ndarray) -> None:
        method = read_choice("method", self.method, Method)
        names = ("regularization", "class_regularization")
        numbers = {name: float(POSITIVE.read(name, getattr(self, name))) for name in names}
        classes = None
        if method == "sinkhorn_classes":
            if y is None:
                raise ValueError(
                    "method='sinkhorn_classes' needs the labels of the source: fit(X, y, target=X_target)."
                )
            classes = np.unique(label_array("y", y, len(source)), return_inverse=True)[1]
        self.transport_ = self._solver(method, numbers["regularization"], numbers["class_regularization"])
        self.transport_.fit(Xs=source, ys=classes, Xt=target)
        plan = getattr(self.transport_, "coupling_", None)  # POT puts a row without a plan at 0
        if plan is not None and not (np.isfinite(plan).all() and (plan.sum(1) > 0).all()):
            raise ValueError(
                f"TransportMapping found no finite plan: raise regularization ({numbers['regularization']:g}), or "
                f"lower class_regularization ({numbers['class_regularization']:g})."
            )

    def _solver(self, method: str, regularization: float, class_regularization: float) -> Any:
        try:
            import ot.da
        except ImportError as error:
            raise ImportError(f"TransportMapping needs POT. Install it with: {install_hint('transport')}") from error
        if method == "emd":
            return ot.da.EMDTransport(norm="max", max_iter=PIVOTS)
        if method == "linear":
            return ot.da.LinearTransport(reg=regularization)
        if method == "sinkhorn":
            return ot.da.SinkhornTransport(
                reg_e=regularization,
                method="sinkhorn_log",
                norm="max",
                out_of_sample_map="ferradans",
                max_iter=SCALINGS,
                tol=1e-6,
            )
        return ot.da.SinkhornLpl1Transport(
            reg_e=regularization,
            reg_cl=class_regularization,
            norm="max",
            out_of_sample_map="ferradans",
            max_inner_iter=SCALINGS // 10,
            tol=1e-6,
        )

    def _map_source(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.transport_.transform(Xs=rows))
