r"""Weight interpolation after training: WiSE-FT and model soups.

\[\theta = (1 - \alpha)\,\theta_0 + \alpha \sum_i s_i \theta_i, \qquad \sum_i s_i = 1\]

with the start \(\theta_0\) and fine-tuned models \(\theta_i\). Costs no training.

Papers: Wortsman et al., *Robust fine-tuning of zero-shot models*, CVPR 2022 (WiSE-FT); Wortsman et al., *Model soups*,
ICML 2022.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from ..messages import nearest
from ..settings import text_keys
from .atomic_folder import new_folder
from .batch_norm_statistics import adapt_batch_norm, batch_norms
from .ingredients import (
    Ingredient,
    check_same_architecture,
    check_same_labels,
    check_same_processing,
    folder_labels,
    is_adapter_folder,
    load_ingredient,
    load_processor,
    other_labels_head,
    plain_class,
    saved_tensors,
    write_ingredient,
)

ALPHAS = tuple(i / 10 for i in range(11))
SOUPS = ("greedy", "uniform")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
COUNTS = "source_validation"  # in a config: counts of the predictions of one model; see selection/source_numbers.py
PAPERS = {
    "wise": "Wortsman et al., *Robust fine-tuning of zero-shot models*, CVPR 2022",
    "soup": "Wortsman et al., *Model soups: averaging weights of multiple fine-tuned models improves accuracy without "
    "increasing inference time*, ICML 2022",
}

Score = Callable[[Any], Mapping[str, float]]


@dataclass(frozen=True)
class Point:
    """A weight average and its scores: `alpha`, and the share of each fine-tuned model."""

    name: str
    alpha: float
    shares: Mapping[str, float]
    scores: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        listed_shares = " + ".join(f"{share:.3g} {name}" for name, share in self.shares.items() if share)
        return listed_shares if self.alpha == 1 else f"{1 - self.alpha:.3g} start + {self.alpha:.3g} ({listed_shares})"


class Mixture:
    """Weight average of trained models of one architecture, as one live model that can be moved between them.

    Of each model a copy of its tensors is written to a scratch folder (removed at the end) and read back one tensor
    at a time: no more than two models are in memory, however many are averaged. Sums are in float64.

    A head that was new when training began has no weights at the start: the head is then the fine-tuned models' at
    every alpha, and only the rest is interpolated; `notes` says so.

    Args:
        models: fine-tuned folders or Hub ids; PEFT folders are merged. Names are the folders', or the map's keys.
        start: what they were fine-tuned from, for WiSE-FT.
        labels: label names, needed where all `models` are PEFT folders, which do not say theirs; or a function that
            finds them, which is called in that case alone.
        dtype: to average in when the folders differ.
        batches: gives label-free model inputs, to estimate the running statistics of batch norm anew; the average of
            two models' statistics is not that of the averaged model.

    Raises:
        ValueError: architectures, labels, tokenizers or dtypes differ; batch norm without `batches`.
        FileNotFoundError: there is no such folder, or it is no whole checkpoint.

    Example:
        >>> with Mixture(["runs/a", "runs/b"], start="sentence-transformers/all-MiniLM-L6-v2") as mixture:
        ...     best = mixture.search(score, by="source_accuracy")  # score(model) -> {"source_accuracy": …}
        ...     mixture.save("runs/wise")
    """

    def __init__(
        self,
        models: Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]],
        start: str | os.PathLike[str] | None = None,
        labels: Sequence[str] | Callable[[], Sequence[str]] | None = None,
        dtype: str | None = None,
        batches: Callable[[], Iterable[Mapping[str, Any]]] | None = None,
    ):
        paths = _paths_by_name(models)
        if start is None and len(paths) < 2:
            raise ValueError("There is nothing to average: give a start, or more than one model.")
        self.batches, self.notes = batches, []  # type: ignore[var-annotated]
        self.paths = paths
        if callable(labels):
            labels = labels() if all(map(is_adapter_folder, paths.values())) else None
        names, cls = _shared_head(paths, labels)
        self.model: Any = None
        self.ingredients: dict[str, Ingredient] = {}
        self.start: Ingredient | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="hftransfer-")
        try:
            self._open(paths, None if start is None else os.fspath(start), names, cls, dtype)
        except BaseException:
            self.close()
            raise

    def _open(self, paths: dict[str, str], start: str | None, names: tuple[str, ...], cls: type, dtype: Any) -> None:
        (first, path), *others = paths.items()
        self.model, _ = load_ingredient(path, cls, names, dtype)
        self.processor = load_processor(path, self.model)
        self.ingredients[first] = write_ingredient(first, self.model, Path(self._scratch.name))
        for name, other in others:
            self.ingredients[name] = self._admit(name, other, path, names, dtype)
        if start is not None:
            self.start = self._admit("start", start, path, names, dtype, is_start=True)
            if self.start.fresh:
                self.notes.append(
                    f"{start} has no weights for {', '.join(sorted(self.start.fresh))}: these are the fine-tuned "
                    "models' at every alpha."
                )
        self.norms = tuple(batch_norms(self.model))
        if self.norms and self.batches is None:
            raise ValueError(
                f"{type(self.model).__name__} has batch norm ({self.norms[0]}, …): the average of running statistics "
                "is not that of the averaged model. Give `batches`, label-free inputs to estimate them from."
            )
        self.point = Point("fine-tuned", 1.0, {first: 1.0})

    def _admit(
        self, name: str, path: str, first_path: str, names: tuple[str, ...], dtype: Any, is_start: bool = False
    ) -> Ingredient:
        """Another ingredient: loaded, compared with the live model, written to the scratch folder and freed."""
        cls = type(self.model) if is_start or is_adapter_folder(path) else plain_class(path)
        model, missing_weights = load_ingredient(path, cls, names, dtype, strict=not is_start)
        check_same_architecture(self.model, model, path, first_path)
        check_same_processing(self.processor, load_processor(path, model), path, first_path)
        missing_weights |= other_labels_head(path, model, names, first_path) if is_start else frozenset()
        return write_ingredient(name, model, Path(self._scratch.name), missing_weights)

    # ---- points

    @torch.no_grad()
    def set(self, shares: Mapping[str, float] | None = None, alpha: float = 1.0) -> Any:
        """The live model at other shares or another alpha.

        Args:
            shares: of each fine-tuned model, by name; equal when `None`. They must sum to 1.
            alpha: 0 is the start, 1 the fine-tuned models.

        Returns:
            The model, in eval mode.

        Raises:
            ValueError: an unknown name, shares that do not sum to 1, or an alpha below 1 without a start.
        """
        shares = dict(shares) if shares is not None else dict.fromkeys(self.ingredients, 1 / len(self.ingredients))
        for name in shares:
            if name not in self.ingredients:
                raise ValueError(f"There is no model {name!r}; there is {', '.join(self.ingredients)}.")
        if not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-9):
            raise ValueError(f"shares must sum to 1, not to {sum(shares.values()):g}.")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha:g} must be between 0, the start, and 1, the fine-tuned model.")
        if alpha != 1 and self.start is None:
            raise ValueError(f"alpha={alpha:g} needs a start to interpolate from.")
        weighted_models = [(self.ingredients[name], share) for name, share in shares.items() if share]
        weighted_ingredients = [(ingredient, alpha * share) for ingredient, share in weighted_models if alpha]
        weighted_ingredients += [(self.start, 1 - alpha)] if self.start is not None and alpha != 1 else []
        statistics = {f"{name}.{end}" for name in self.norms for end in STATISTICS}
        for name, tensor in saved_tensors(self.model).items():
            averaged = weighted_models if self.start is not None and name in self.start.fresh else weighted_ingredients
            if not tensor.is_floating_point() or name in statistics:
                tensor.copy_(max(averaged, key=lambda item: item[1])[0].read(name))
                continue
            total = torch.zeros(tensor.shape, dtype=torch.float64)
            for ingredient, weight in averaged:
                total += weight * ingredient.read(name).double()
            tensor.copy_(total)
        if len(weighted_ingredients) > 1 and self.norms and self.batches is not None:
            adapt_batch_norm(self.model, self.batches())
        self.point = Point("", alpha, shares)
        return self.model.eval()

    # ---- choosing

    def search(
        self,
        score: Score,
        by: str,
        greater_is_better: bool = True,
        soup: str = "greedy",
        alphas: Iterable[float] | None = None,
    ) -> list[Point]:
        """Search for the best shares and alpha, at which the live model is left.

        Several models are first made one: `"greedy"` goes through them from the best to the worst and keeps each that
        does not make the average worse; `"uniform"` takes all in equal shares. With a start, every alpha is then
        tried; of equal ones the largest is chosen.

        Args:
            score: the measures of a model, by name. Called at each point.
            by: which of them chooses: of labelled source validation rows, or label-free. It must not read target
                labels.
            greater_is_better: or less.
            soup: see above.
            alphas: to try; 0, 0.1 … 1 when `None`.

        Returns:
            Every point with its scores, in the order in which they were tried. The chosen one is `self.point`.

        Raises:
            ValueError: `by` reads target labels, or is not among the scores, or is not finite there.
        """
        alphas = sorted({float(alpha) for alpha in (ALPHAS if alphas is None else alphas)})
        if soup not in SOUPS:
            raise ValueError(f"soup={soup!r} must be one of {', '.join(SOUPS)}.{nearest(soup, SOUPS)}")
        if self.start is not None and not alphas:
            raise ValueError("alphas is empty: name the shares of the fine-tuned model to try, 0.5 for instance.")
        if "oracle" in by:
            raise ValueError(
                f"by={by!r} reads target labels, which must not choose weights. Choose by a source score."
            )
        tried_points: list[Point] = []

        def visit(name: str, shares: Mapping[str, float], alpha: float = 1.0) -> Point:
            scores = dict(score(self.set(shares, alpha)))
            if by not in scores:
                raise ValueError(f"by={by!r} is not scored; there is {', '.join(scores)}.{nearest(by, scores)}")
            if not math.isfinite(scores[by]):
                raise ValueError(f"{by} is {scores[by]} at {name}: nothing can be chosen by it.")
            tried_points.append(Point(name, alpha, dict(shares), scores))
            return tried_points[-1]

        def value(point: Point) -> float:
            return point.scores[by] if greater_is_better else -point.scores[by]

        best = Point("fine-tuned", 1.0, dict.fromkeys(self.ingredients, 1 / len(self.ingredients)))
        if len(self.ingredients) > 1:
            single_models = [visit(name, {name: 1.0}) for name in self.ingredients]
            if soup == "uniform":
                best = visit("uniform soup", best.shares)
            else:
                best, *worse_models = sorted(single_models, key=value, reverse=True)
                for other in worse_models:
                    names = [*best.shares, *other.shares]
                    larger_soup = visit(f"soup of {', '.join(names)}", dict.fromkeys(names, 1 / len(names)))
                    best = larger_soup if value(larger_soup) >= value(best) else best
        if self.start is not None:
            points = [visit(f"alpha {alpha:g}", best.shares, alpha) for alpha in alphas]
            best = max(reversed(points), key=value)
        self.set(best.shares, best.alpha)
        self.point = best
        return tried_points

    # ---- keeping

    def save(self, output_dir: str | os.PathLike[str], processor: Any = None, card: str | None = None) -> None:
        """The live model as a plain checkpoint, written whole or not at all, with its processor and a model card.

        Args:
            output_dir: a folder that does not exist.
            processor: tokenizer or image processor; that of the first model when `None`.
            card: the text of README.md; three lines on what was averaged when `None`.

        Raises:
            FileExistsError: it exists.
        """
        processor = processor if processor is not None else self.processor
        self.model.config.hftransfer = {
            **_without_counts(getattr(self.model.config, "hftransfer", None) or {}),
            "interpolation": {"alpha": self.point.alpha, "shares": dict(self.point.shares)},
        }
        with new_folder(output_dir) as folder:
            self.model.save_pretrained(folder)
            if processor is not None:
                processor.save_pretrained(folder)
            (folder / "README.md").write_text(card or self.card(), encoding="utf-8")

    def card(self) -> str:
        """Text of a short README.md."""
        papers = [PAPERS["wise"]] * (self.point.alpha != 1) + [PAPERS["soup"]] * (len(self.point.shares) > 1)
        lines = ["---", "library_name: transformers", "tags: [hftransfer, weight-interpolation]", "---", ""]
        lines += [f"Weights averaged after training: {self.point}.", "", *(f"- {paper}" for paper in papers)]
        return "\n".join(lines).rstrip() + "\n"

    def close(self) -> None:
        """Removes the scratch folder."""
        self._scratch.cleanup()

    def __enter__(self) -> Mixture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _paths_by_name(models: Any) -> dict[str, str]:
    """Paths of the models by name, without two of a name and without a path twice."""
    if isinstance(models, (str, os.PathLike)):
        models = [models]
    if not isinstance(models, Mapping):
        paths = [os.fspath(path) for path in models]
        folder_names = [Path(path).name for path in paths]
        models = dict(zip(folder_names if len(set(folder_names)) == len(folder_names) else paths, paths, strict=True))
        if len(models) < len(paths):
            repeated = next(path for path in paths if paths.count(path) > 1)
            raise ValueError(f"{repeated} is named twice; each model counts once.")
    if not models:
        raise ValueError("There is no fine-tuned model: name one or more folders.")
    return {name: os.fspath(path) for name, path in text_keys(models, "models").items()}


def _shared_head(paths: Mapping[str, str], labels: Sequence[str] | None) -> tuple[tuple[str, ...], type]:
    """Label names and class that all folders share."""
    first = next((path for path in paths.values() if not is_adapter_folder(path)), None)
    names = tuple(labels) if labels is not None else None if first is None else folder_labels(first)
    if names is None:
        raise ValueError(
            f"{next(iter(paths.values()))} is an adapter, whose folder does not say its labels. Give them as "
            "`labels`, in the order of the logits."
        )
    for path in paths.values():
        check_same_labels(names, folder_labels(path), path, "`labels`" if labels is not None else str(first))
    return names, plain_class(first if first is not None else next(iter(paths.values())))


def _without_counts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of one of the models without counts of its predictions, which are not the average's."""
    return {key: value for key, value in metadata.items() if key != COUNTS}
