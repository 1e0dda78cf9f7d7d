"""Prediction pass: logits, labels and features of a fixed subset of rows, for the scores that read predictions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from accelerate.utils import gather_object, send_to_device
from torch import nn

from ..data.column_arrays import number_column
from ..data.label_space import column_names
from ..data.text_encoder import LENGTH, WORD_MASK, without_other_tokenizations
from ..ignored_label import IGNORE
from ..models.batch_norm_statistics import average_statistics, batch_norms
from ..models.layer_hook import HEAD, LayerHook
from ..models.module_mode import module_mode
from ..selection.validators.mixval import SHARE
from .batch_rows import has_rows
from .metrics import SOFTMAX
from .step.perturbed_forward import perturbable_input
from .trainer_access import joint_model_of

if TYPE_CHECKING:
    from .config import AdaptationConfig
    from .setup.preparation import Prepared

PROJECTION = 20  # seed of the projection, which is the same for all models of one width
LARGEST = float(np.finfo(np.float16).max)


class PredictingTrainer(Protocol):
    """What a pass asks of an `AdaptationTrainer`, which evaluates by it, so that it cannot be imported here."""

    prepared: Prepared
    args: AdaptationConfig
    accelerator: Any
    model: Any
    optimizer: Any
    data_collator: Any


@dataclass(frozen=True)
class DomainPredictions:
    """Predictions of one model on rows of one domain; in tagging a row is a word.

    Args:
        logits: (n, K), single precision.
        labels: (n,) class ids; `None` where the data set has none. -100 only in the training target, where a few were
            revealed.
        features: (n, d), half precision: what the final layer sees, or those of the layer that was asked for, on a
            fixed random projection where they are wider than was asked for; `None` where none were.
        rows: (n,) row of the data set that each came from, in ascending order.
    """

    logits: np.ndarray
    labels: np.ndarray | None
    features: np.ndarray | None
    rows: np.ndarray


def predict_rows(
    trainer: PredictingTrainer,
    dataset: Any,
    rows: int | None = None,
    seed: int = 0,
    features: int | None = 64,
    feature_layer: str = HEAD,
) -> DomainPredictions:
    """Predictions on a fixed subset of rows, from one pass in evaluation mode that leaves the run as it was.

    The same rows, in the same batches, whatever the number of processes; each process gets all of them. Random
    states, modes and running statistics are what they were afterwards, so that a run goes on as without the pass.

    Args:
        trainer: an `AdaptationTrainer`, trained or not.
        dataset: rows as they are, or encoded. Of a stream the first `rows` are read.
        rows: how many, drawn with `seed`; all when `None`. In tagging they are sentences.
        seed: of the draw.
        features: largest width of the features; `None` leaves them out.
        feature_layer: `"head"` for what the final layer sees, or `"hidden:i"` for layer i of the stack, by
            `LayerHook.take_grid`.

    Raises:
        ValueError: multi-label classification or regression, a stream without `rows`, rows that cannot be encoded, a
            layer that is not there, or one for the words of tagging.

    Example:
        >>> target = predict_rows(trainer, medical, rows=20)
        >>> target.logits.shape, target.features.dtype, len(target.rows)
        ((20, 3), dtype('float16'), 20)
    """
    _check_task(trainer)
    if feature_layer != HEAD and trainer.prepared.label_space.task == "token-classification":
        raise ValueError(f"feature_layer={feature_layer!r} is of whole rows, and the task is token-classification.")
    encoded = trainer.prepared.encode_evaluation(dataset, "dataset")
    row_numbers, row_of = _chosen_rows(encoded, rows, seed)
    labelled = "labels" in column_names(encoded)

    def predict(model: nn.Module, batch_rows: Sequence[int]) -> list[tuple[Any, ...]]:
        inputs = _inputs(trainer, [row_of(row) for row in batch_rows])
        labels, word_mask = inputs.pop("labels", None), inputs.pop(WORD_MASK, None)
        with trainer.accelerator.autocast():
            logits = model(**inputs).logits.float()
        head_inputs = joint_model_of(trainer).joint_forward.features.take(inputs)[0][HEAD]
        numbers = torch.tensor(batch_rows, device=logits.device)
        kept = torch.ones(logits.shape[:-1], dtype=torch.bool, device=logits.device)
        if logits.ndim == 3:
            numbers = numbers.unsqueeze(1).expand(kept.shape)
            kept = labels != IGNORE if word_mask is None else word_mask.bool()  # a user's collator may drop the mask
        arrays = [numbers[kept], logits[kept]]
        arrays += [] if labels is None else [labels[kept]]
        arrays += [] if features is None else [(head_inputs if hook is None else hook.take_grid(inputs))[kept].float()]
        parts = [array.cpu().numpy() for array in arrays]
        if features is not None:
            parts[-1] = _projected(parts[-1], features)
        return [tuple(parts)]

    lengths = _lengths(encoded, row_numbers)
    hook = None if feature_layer == HEAD else LayerHook(joint_model_of(trainer).model, feature_layer)
    try:
        parts = _in_batches(trainer, row_numbers, lengths, predict)
    finally:
        if hook is not None:
            hook.remove()
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")  # words of a row stay in their order
    numbers, logits, *others = (column[order] for column in columns)
    return DomainPredictions(
        logits=logits,
        labels=others[0] if labelled else None,
        features=others[-1] if features is not None else None,
        rows=numbers,
    )


def predict_mixed(
    trainer: PredictingTrainer, dataset: Any, first: Sequence[int], second: Sequence[int], lam: float = SHARE
) -> np.ndarray:
    """Logits on mixtures of two rows each, for `MixVal`: of pixels, or of token embeddings.

    A mixture is λ·first + (1 - λ)·second. Of two texts, the shorter is padded with zeros to the longer one's length;
    positions and token types are the longer one's. It leaves the run as it was, as `predict_rows` does.

    Args:
        trainer: an `AdaptationTrainer`.
        dataset: rows as they are, or encoded.
        first, second: (p,) row numbers of the data set.
        lam: λ, the share of the first row.

    Returns:
        (p, K).

    Raises:
        ValueError: another task than the classification of whole rows, a model without token embeddings, row numbers
            that do not pair up, or λ outside 0 to 1.

    Paper: Hu et al., Mixed Samples as Probes for Unsupervised Model Selection in Domain Adaptation, NeurIPS 2023.

    Example:
        >>> predict_mixed(trainer, medical, [0, 1], [1, 2]).shape
        (2, 3)
    """
    _check_task(trainer)
    if trainer.prepared.label_space.task == "token-classification":
        raise ValueError("predict_mixed mixes rows of one label each; the words of two sentences do not pair up.")
    if not 0 <= lam <= 1:
        raise ValueError(f"lam={lam!r} must be a share between 0 and 1.")
    if len(first) != len(second) or not len(first):
        raise ValueError(f"first and second must pair up; they have {len(first)} and {len(second)} rows.")
    encoded = trainer.prepared.encode_evaluation(dataset, "dataset")
    first, second = ([int(row) for row in rows] for rows in (first, second))
    _, row_of = _chosen_rows(encoded, None if hasattr(encoded, "__len__") else 1 + max(first + second), 0)

    def predict(model: nn.Module, pairs: Sequence[int]) -> list[tuple[Any, ...]]:
        both = [row_of(rows[pair]) for rows in (first, second) for pair in pairs]
        inputs = _inputs(trainer, both)
        for name in ("labels", WORD_MASK):
            inputs.pop(name, None)
        joint = joint_model_of(trainer)
        with trainer.accelerator.autocast(), _mixing(joint.model, inputs, len(pairs), lam) as mixed:
            logits = model(**mixed).logits.float()
        joint.joint_forward.features.take(mixed)
        return [(list(pairs), logits.cpu().numpy())]

    lengths = _lengths(encoded, first + second)
    longest = None if lengths is None else np.maximum(lengths[: len(first)], lengths[len(first) :])
    parts = _in_batches(trainer, list(range(len(first))), longest, predict)
    order = np.argsort(np.concatenate([pairs for pairs, _ in parts]), kind="stable")
    return np.concatenate([logits for _, logits in parts])[order]


def _check_task(trainer: PredictingTrainer) -> None:
    task = trainer.prepared.label_space.task
    if task not in SOFTMAX:
        raise ValueError(f"Scores without target labels read predictions of one class of several; this is {task}.")


def _chosen_rows(dataset: Any, rows: int | None, seed: int) -> tuple[list[int], Callable[[int], dict[str, Any]]]:
    """Row numbers in ascending order, and a function that gives a row by its number."""
    if rows is not None and rows < 1:
        raise ValueError(f"rows={rows} must be at least 1.")
    if not hasattr(dataset, "__len__"):
        if rows is None:
            raise ValueError("A stream has no end that is known: say with rows how many of its rows to predict.")
        stream_rows = list(islice(dataset, rows))
        return list(range(len(stream_rows))), stream_rows.__getitem__
    order = np.random.default_rng(seed).permutation(len(dataset)) if rows is not None else np.arange(len(dataset))
    return sorted(int(row) for row in order[:rows]), dataset.__getitem__


def _lengths(dataset: Any, rows: Sequence[int]) -> np.ndarray | None:
    """Lengths in tokens of some rows; `None` where all are alike, or where they are not known."""
    if not hasattr(dataset, "__len__") or LENGTH not in column_names(dataset):
        return None
    return number_column(dataset, LENGTH)[list(rows)]


def _inputs(trainer: PredictingTrainer, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Batch of encoded rows on the run's device, as in evaluation."""
    batch = trainer.data_collator([without_other_tokenizations(row) for row in rows])
    inputs: dict[str, Any] = send_to_device(without_other_tokenizations(batch), trainer.args.device)
    return inputs


def _in_batches(
    trainer: PredictingTrainer,
    items: Sequence[int],
    lengths: np.ndarray | None,
    predict: Callable[[nn.Module, Sequence[int]], list[tuple[Any, ...]]],
) -> list[tuple[Any, ...]]:
    """What `predict` gives for batches of items of like length, shared out among processes and gathered on each.

    Every process runs equally many batches, since sharded weights are gathered by all of them at once.
    """
    size, processes, rank = trainer.args.eval_batch_size, trainer.args.world_size, trainer.args.process_index
    order = range(len(items)) if lengths is None else np.argsort(lengths, kind="stable")[::-1]
    ordered = [items[i] for i in order]
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    share = batches[rank::processes]
    parts = []
    with _undisturbed(trainer) as model:
        for number in range(-(-len(batches) // processes)):
            part = predict(model, share[number] if number < len(share) else batches[0])
            parts += part if number < len(share) else []
    gathered: list[tuple[Any, ...]] = gather_object(parts)
    return gathered


@contextmanager
def random_states_kept(device: torch.device) -> Iterator[None]:
    """Random states of Python, NumPy and torch, as they were before a `with` block.

    What a module draws while it is imported would make a resumed run another one.

    Args:
        device: of the run.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def _undisturbed(trainer: PredictingTrainer) -> Iterator[nn.Module]:
    """The model in evaluation mode, without gradients; random states and running statistics are kept."""
    model: nn.Module = trainer.model
    if callable(getattr(trainer.optimizer, "eval", None)):  # schedule-free: as in evaluation
        trainer.optimizer.eval()
    statistics = {
        buffer: buffer.clone() for module in batch_norms(model).values() for buffer in module.buffers(recurse=False)
    }
    try:
        with torch.no_grad(), random_states_kept(trainer.args.device), module_mode(model):
            average_statistics(model)
            yield model
    finally:
        for buffer, value in statistics.items():
            buffer.copy_(value)


def _projected(features: np.ndarray, dimensions: int) -> np.ndarray:
    """(n, width) features -> (n, at most `dimensions`), in half precision; what is finite stays so."""
    width = features.shape[1]
    if width > dimensions:
        draw = np.random.default_rng((PROJECTION, width, dimensions))
        features = features @ (draw.normal(size=(width, dimensions)) / np.sqrt(dimensions)).astype(np.float32)
    return np.where(np.isfinite(features), np.clip(features, -LARGEST, LARGEST), features).astype(np.float16)


@contextmanager
def _mixing(model: nn.Module, inputs: dict[str, Any], pairs: int, lam: float) -> Iterator[dict[str, Any]]:
    """Inputs of the mixtures of a batch that holds the first rows and then the second rows of pairs.

    Token embeddings are mixed by a hook, inside the forward, where sharded weights are whole.
    """
    try:
        name, layer = perturbable_input(model, inputs)
    except ValueError:
        raise ValueError(
            f"Mixtures are of token embeddings or of pixels, and {type(model).__name__} has neither."
        ) from None
    first, second = (
        {key: value[half] if has_rows(value, 2 * pairs) else value for key, value in inputs.items()}
        for half in (slice(pairs), slice(pairs, None))
    )
    if layer is None:
        yield first | {name: lam * first[name] + (1 - lam) * second[name]}
        return
    masks = [half.get("attention_mask", torch.ones_like(half[name])) for half in (first, second)]
    first_is_longer = masks[0].sum(1) >= masks[1].sum(1)

    def longer(key: str) -> Any:
        if not has_rows(first[key], pairs):
            return first[key]
        return torch.where(first_is_longer.view(-1, *[1] * (first[key].ndim - 1)), first[key], second[key])

    def mix(module: nn.Module, args: tuple[Any, ...], embedded: torch.Tensor) -> torch.Tensor:
        parts = [
            module.forward(half[name]) * mask.unsqueeze(-1) for half, mask in zip((first, second), masks, strict=True)
        ]
        return (lam * parts[0] + (1 - lam) * parts[1]).to(embedded.dtype)

    hook = layer.register_forward_hook(mix)
    try:
        yield {key: longer(key) for key in first}
    finally:
        hook.remove()
