"""Structure transfer: a changed architecture that takes over the old weights that fit, with a report.

Partial transfer of a network's structure: fewer layers (the students of Sanh et al., *DistilBERT*, 2019), a re-shaped
head, another vocabulary, longer or interpolated positions, other input channels.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from ..messages import nearest
from .adapters import is_peft
from .embedding_transfer import NEW_TOKENS, move_embedding
from .feature_hook import find_head
from .ingredients import is_adapter_folder, plain_class, saved_tensors
from .label_maps import label_maps
from .model_structure import backbone_prefix
from .model_structure import embedding_modules as embedding_modules
from .model_structure import layer_stack as layer_stack
from .pretrained import load_model, load_quietly
from .reshaped_weights import NONE, is_position_table, position_offset, reshape_weights
from .transplant_report import TransferredTensor, Transplant

PICKS = ("even", "first", "last")
PARTS = ("embeddings", "layers", "head", "rest")
ALL = "all"


def transplant(
    source: Any,
    config: Mapping[str, Any] | None = None,
    layers: int | Sequence[int] | None = None,
    pick: str = "even",
    labels: Sequence[str] | None = None,
    tokenizer: Any = None,
    source_tokenizer: Any = None,
    new_tokens: str = "subwords",
    max_positions: int | None = None,
    image_size: int | None = None,
    num_channels: int | None = None,
    take: Sequence[str] = PARTS,
    task: str = "sequence-classification",
) -> Transplant:
    """A model of the same family with another structure, and of the old weights all that fit.

    Args:
        source: a loaded model, a Hub id or a folder. It is left as it is.
        config: further changes of the config, such as `{"hidden_act": "relu"}`. Weights whose shape changes start
            anew.
        layers: how many to keep, or which, by number.
        pick: which of them: `"even"`, spread over the depth from the first on; `"first"`; `"last"`.
        labels: names in the new order. A class that the old head has keeps its row of weights.
        tokenizer: the new vocabulary; see `move_embedding`.
        source_tokenizer: the old one; that of the source's folder when `None`.
        new_tokens: what tokens that the old vocabulary lacks start as: `"subwords"` or `"normal"`.
        max_positions: tokens that a table of absolute positions is to reach. Positions beyond the old ones start as
            the old ones over again (Beltagy et al., *Longformer*, 2020).
        image_size: in pixels; learned positions are interpolated bicubically over the grid of patches (Dosovitskiy
            et al., *ViT*, 2021).
        num_channels: of images. One channel takes the sum over the old ones; more repeat them, scaled so that the
            response to equal channels stays.
        take: which parts are taken over, of `embeddings`, `layers`, `head` and `rest`; all others start anew.
        task: the head that a bare backbone gets when `labels` are given.

    Returns:
        The model in eval mode and the report. What starts anew is drawn from torch's random state, and the model's
        `fresh_weights` name it, so that it always trains and adapters save it.

    Raises:
        ValueError: a change that the family cannot make, or a setting that does not exist.
        FileNotFoundError: as `load_model`.

    Example:
        >>> made = transplant("sentence-transformers/all-MiniLM-L6-v2", layers=3, labels=["down", "up"])
        >>> print(made)
        >>> made.model.save_pretrained("half-minilm")
    """
    if pick not in PICKS:
        raise ValueError(f"pick={pick!r} must be one of {', '.join(PICKS)}.{nearest(pick, PICKS)}")
    if new_tokens not in NEW_TOKENS:
        raise ValueError(f"new_tokens={new_tokens!r} must be one of {', '.join(NEW_TOKENS)}.")
    for part in take:
        if part not in PARTS:
            raise ValueError(f"take: there is no part {part!r}; there is {', '.join(PARTS)}.{nearest(part, PARTS)}")
    source_model = _load_source(source, labels, task)
    plan = _Plan(source_model, copy.deepcopy(source_model.config))
    plan.override(config or {})
    if layers is not None:
        plan.choose_layers(layers, pick)
    if labels is not None:
        plan.relabel(labels)
    if tokenizer is not None:
        plan.revocabulary(tokenizer, source_tokenizer)
    if max_positions is not None:
        plan.lengthen(max_positions)
    if image_size is not None:
        plan.resize(image_size)
    if num_channels is not None:
        plan.rechannel(num_channels)
    new_model = type(source_model)(_without_stages(plan.config))
    new_model.to(next(source_model.parameters()).dtype)
    result = Transplant(new_model.eval(), notes=plan.notes)
    with torch.no_grad():
        plan.fill(new_model, result, take, tokenizer, new_tokens)
    parameters = dict(new_model.named_parameters())
    new_model.fresh_weights = tuple(name for name in result.fresh if name in parameters)
    new_model.name_or_path = new_model.config.name_or_path = (
        "" if tokenizer is not None else source_model.config.name_or_path
    )
    return result


class _Plan:
    """Plan of a transplant: what is to change, and which old tensor each new one comes from."""

    def __init__(self, old: Any, config: Any):
        self.old, self.config = old, config
        self.notes: list[str] = []
        self.stack, self.depth = "", 0
        self.picks: list[int] | None = None
        self.final: str | None = None
        self.rows: dict[int, int] = {}  # new class to old class
        self.source_tokenizer: Any = None
        self.image = getattr(config, "vision_config", config)  # CLIP keeps the settings of its image side apart

    def override(self, changes: Mapping[str, Any]) -> None:
        config_keys = self.config.to_dict()
        for key, value in changes.items():
            if key in ("num_labels", "id2label", "label2id"):
                raise ValueError(f"config: {key!r} belongs to `labels`, which match the head's rows by name.")
            if key not in config_keys:
                raise ValueError(f"config: {type(self.config).__name__} has no {key!r}.{nearest(key, config_keys)}")
            setattr(self.config, key, value)

    def choose_layers(self, layers: int | Sequence[int], pick: str) -> None:
        name = type(self.old).__name__
        self.stack, stack = layer_stack(self.old)
        self.depth = len(stack)
        if getattr(self.image, "num_hidden_layers", None) != self.depth or not _interchangeable_layers(stack):
            raise ValueError(
                f"{name} has no plain stack of layers to choose from ({self.stack} holds {self.depth} stages or "
                "shared groups). Change its depth by `config`, as in {'depths': [1, 1, 1, 1]} or "
                "{'num_hidden_layers': 6}."
            )
        if isinstance(layers, int):
            if not 1 <= layers <= self.depth:
                raise ValueError(f"layers={layers}: {name} has {self.depth} layers; keep between 1 and {self.depth}.")
            evenly_spaced = [i * self.depth // layers for i in range(layers)]
            picks = {"even": evenly_spaced, "first": list(range(layers))}.get(pick, [*range(self.depth)][-layers:])
        else:
            picks = list(layers)
            if not picks or any(not 0 <= i < self.depth for i in picks):
                raise ValueError(f"layers={picks}: {name} has layers 0 to {self.depth - 1}.")
        self.picks = picks
        for key, value in self.image.to_dict().items():  # one entry a layer, such as its kind of attention
            if isinstance(value, list) and len(value) == self.depth and key.startswith(("layer", "mlp_layer")):
                setattr(self.image, key, [value[i] for i in picks])
        self.image.num_hidden_layers = len(picks)

    def relabel(self, labels: Sequence[str]) -> None:
        names = [str(name) for name in labels]
        if len(names) < 1 or len(set(names)) < len(names):
            raise ValueError(f"labels must be names, each once, not {', '.join(names) or 'none'}.")
        self.final = find_head(self.old, _smallest_input(self.old)).name
        old_labels = {str(name): int(i) for i, name in self.config.id2label.items()}
        self.rows = {i: old_labels[name] for i, name in enumerate(names) if name in old_labels}
        for key, labels_by in label_maps(names).items():
            setattr(self.config, key, labels_by)
        dropped_labels = [name for name in old_labels if name not in names]
        if dropped_labels and self.rows:
            self.notes.append(f"Labels that were left out: {', '.join(dropped_labels)}.")

    def revocabulary(self, tokenizer: Any, source_tokenizer: Any) -> None:
        if self.old.main_input_name != "input_ids":
            raise ValueError(f"{type(self.old).__name__} reads no text: a tokenizer is of no use to it.")
        if source_tokenizer is None:
            if not self.old.config.name_or_path:
                raise ValueError("source_tokenizer is missing: the model was not loaded from anywhere that has one.")
            from transformers import AutoTokenizer

            source_tokenizer = load_quietly(AutoTokenizer, self.old.config.name_or_path, trust_remote_code=False)
        self.source_tokenizer = source_tokenizer
        self.config.vocab_size = len(tokenizer)
        for role in ("pad", "bos", "eos", "cls", "sep", "unk", "mask"):
            if hasattr(self.config, f"{role}_token_id"):
                setattr(self.config, f"{role}_token_id", getattr(tokenizer, f"{role}_token_id", None))

    def lengthen(self, positions: int) -> None:
        if positions < 1 or not hasattr(self.config, "max_position_embeddings"):
            raise ValueError(f"max_positions={positions}: {type(self.old).__name__} cannot have as many positions.")
        tables = [m for n, m in self.old.named_modules() if is_position_table(n, m)]
        if not tables:
            self.notes.append("Positions are computed, not learned: there is no table to take over.")
        self.config.max_position_embeddings = positions + (position_offset(tables[0]) if tables else 0)

    def resize(self, size: int) -> None:
        patch = getattr(self.image, "patch_size", None)
        if not hasattr(self.image, "image_size"):
            raise ValueError(f"{type(self.old).__name__} takes images of any size: image_size changes nothing.")
        if isinstance(patch, int) and size % patch:
            raise ValueError(f"image_size={size} is no multiple of the patch size {patch}.")
        if any("relative_position" in n for n, _ in self.old.named_parameters()) and size != self.image.image_size:
            raise ValueError(
                f"{type(self.old).__name__} has tables of relative positions, whose windows would change with the "
                "image size. Resize the images instead."
            )
        self.image.image_size = size

    def rechannel(self, channels: int) -> None:
        if channels < 1 or not hasattr(self.image, "num_channels"):
            raise ValueError(f"num_channels={channels}: {type(self.old).__name__} cannot have as many channels.")
        self.image.num_channels = channels

    # ---- weights

    def fill(self, new_model: Any, result: Transplant, take: Sequence[str], tokenizer: Any, new_tokens: str) -> None:
        """The new model's weights, copied where they fit, with a line of the report for each."""
        source_tensors = saved_tensors(self.old)
        source_fresh = set(getattr(self.old, "fresh_weights", ()))
        inputs = new_model.get_input_embeddings() if tokenizer is not None else None
        embeddings = set(embedding_modules(new_model))
        prefix = backbone_prefix(new_model)
        parameters = {name for name, _ in new_model.named_parameters()}
        used_names = set()
        for name, tensor in saved_tensors(new_model).items():
            part, label = self._part(name, prefix, embeddings)
            source = self._source_name(name)
            source_tensor = source_tensors.get(source)
            used_names.add(source)
            taken, how = 0, NONE
            if part not in take:
                how = f"{NONE}: not asked for"
            elif source_tensor is None:
                how = f"{NONE}: the source has no such weights"
            elif source in source_fresh:
                how = f"{NONE}: new in the source too"
            elif self.final is not None and name.rpartition(".")[0] == self.final:
                for i, j in self.rows.items():
                    tensor[i] = source_tensor[j]
                taken = len(self.rows) * (tensor.numel() // len(tensor))
                kept_labels = [str(self.config.id2label[i]) for i in self.rows]
                how = (
                    f"rows of {', '.join(kept_labels)}"
                    if kept_labels
                    else f"{NONE}: no label has the name of an old one"
                )
            elif inputs is not None and tensor is inputs.weight:
                rows = move_embedding(source_tensor, self.source_tokenizer, tokenizer, len(tensor), new_tokens)
                tensor.copy_(rows.weight)
                taken = (rows.kept + rows.averaged) * tensor.shape[1]
                how = f"rows: {rows}"
            elif tensor.shape == source_tensor.shape:
                tensor.copy_(source_tensor)
                taken, how = tensor.numel(), ALL if name == source else f"{ALL}, from layer {self._layer(source)}"
            else:
                taken, how = reshape_weights(new_model, name, tensor, source_tensor)
            if name in parameters:
                result.tensors.append(TransferredTensor(name, label, tensor.numel(), taken, how))
        self._note_left(set(dict(self.old.named_parameters())) - used_names)

    def _note_left(self, names: set[str]) -> None:
        """Notes on old weights that the new model has no use for: whole layers, and others one by one."""
        if self.picks is not None:
            dropped_layers = [i for i in range(self.depth) if i not in self.picks]
            names = {n for n in names if not n.startswith(tuple(f"{self.stack}.{i}." for i in dropped_layers))}
            if dropped_layers:
                self.notes.append(f"Layers that were left out: {', '.join(map(str, dropped_layers))} of {self.stack}.")
        if names:
            self.notes.append(f"Weights that were left out: {', '.join(sorted(names))}.")

    def _source_name(self, name: str) -> str:
        if self.picks is None or not name.startswith(f"{self.stack}."):
            return name
        index, _, rest = name.removeprefix(f"{self.stack}.").partition(".")
        return f"{self.stack}.{self.picks[int(index)]}.{rest}"

    def _layer(self, source: str) -> str:
        return source.removeprefix(f"{self.stack}.").partition(".")[0]

    def _part(self, name: str, prefix: str, embeddings: set[str]) -> tuple[str, str]:
        """The section of the model that a tensor belongs to, for `take`, and its name in the report."""
        stack = self.stack or layer_stack(self.old)[0]
        if name.startswith(f"{stack}."):
            index = name.removeprefix(f"{stack}.").partition(".")[0]
            return "layers", f"{stack}.{index}"
        if not name.startswith(f"{prefix}."):
            return "head", name.partition(".")[0]
        if any(name.startswith(f"{module}.") for module in embeddings):
            return "embeddings", name.removesuffix(".weight").removesuffix(".bias")
        return "rest", name.rpartition(".")[0]


def _load_source(source: Any, labels: Sequence[str] | None, task: str) -> Any:
    """The source as a model; a bare backbone gets the head that labels ask for."""
    if is_peft(source) or (isinstance(source, (str, os.PathLike)) and is_adapter_folder(os.fspath(source))):
        raise ValueError(
            "The source is an adapter over a model; merge it first, with merge_adapter=True for instance."
        )
    if isinstance(source, PreTrainedModel):
        if labels is not None and not type(source).__name__.endswith("Classification"):
            raise ValueError(f"{type(source).__name__} has no head for labels. Pass its name, or a model with one.")
        return source
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source must be a model, a Hub id or a folder, not {type(source).__name__}.")
    path = os.fspath(source)
    architecture = (load_quietly(AutoConfig, path).architectures or [""])[0]
    if architecture.endswith("Classification"):
        return load_quietly(plain_class(path), path, trust_remote_code=False).eval()
    if labels is None:
        raise ValueError(f"{path} is a bare backbone ({architecture}): name the `labels` of the head it is to get.")
    return load_model(path, task, list(labels)).eval()


def _smallest_input(model: Any) -> dict[str, torch.Tensor]:
    """The smallest input that a model runs on."""
    device = next(model.parameters()).device
    if model.main_input_name == "input_ids":
        token = 2 if getattr(model.config, "pad_token_id", None) == 1 else 1
        return {"input_ids": torch.full((1, 4), token, device=device)}
    vision = getattr(model.config, "vision_config", model.config)
    size = getattr(vision, "image_size", 64)
    height, width = (size, size) if isinstance(size, int) else size
    dtype = next(model.parameters()).dtype
    return {"pixel_values": torch.zeros(1, vision.num_channels, height, width, dtype=dtype, device=device)}


def _without_stages(config: Any) -> Any:
    """A config whose names of stages, one a layer in some vision encoders, are made anew for its depth."""
    if not hasattr(config, "stage_names"):
        return config
    settings = {k: v for k, v in config.to_dict().items() if k not in ("stage_names", "out_features", "out_indices")}
    rebuilt = type(config).from_dict(settings)
    rebuilt.name_or_path = config.name_or_path
    return rebuilt


def _interchangeable_layers(stack: nn.ModuleList) -> bool:
    """Whether any layer could stand in another's place: what they share has the same shapes."""
    shapes: dict[str, torch.Size] = {}
    return all(
        shapes.setdefault(name, parameter.shape) == parameter.shape
        for block in stack
        for name, parameter in block.named_parameters()
    )
