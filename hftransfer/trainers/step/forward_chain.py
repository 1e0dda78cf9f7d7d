"""Joint forward: the chain of forwards that a batch of source and target rows goes through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ...models.feature_hook import Head
from ...models.stochastic_norm import ChannelMix
from ...objectives.second_view import VIEW_INPUTS
from ..batch_rows import BatchRows
from ..teachers.teacher import TeacherSet
from .chunked_forward import ChunkedForward
from .feature_forward import FeatureForward, Forward, ForwardOutputs
from .frozen_layers_forward import FrozenLayersForward
from .objective_set import ObjectiveSet
from .per_domain_forward import PerDomainForward
from .second_views_forward import SecondViewsForward
from .stochastic_norm_forward import MixedNormForward


@dataclass(frozen=True)
class JointForward:
    """Chain of forwards, with what the joint model must know of it.

    Args:
        chain: its outermost link.
        features: its innermost link, which runs the model.
        from_states: the link around it, which leaves out frozen layers.
        frozen_batch_norm: batch norm uses its running statistics as they are.
        batch_norm_mix, strong_views: modules whose state belongs in checkpoints.
    """

    chain: Forward
    features: FeatureForward
    from_states: FrozenLayersForward
    frozen_batch_norm: bool = False
    batch_norm_mix: ChannelMix | None = None
    strong_views: nn.Module | None = None

    def __call__(self, model: nn.Module, inputs: dict[str, Any], rows: BatchRows) -> ForwardOutputs:
        return self.chain(model, inputs, rows)


def build_forward(
    model: nn.Module,
    head: Head,
    objectives: ObjectiveSet | None = None,
    teachers: TeacherSet | None = None,
    *,
    chunk_rows: int | None = None,
    batch_norm: str = "joint",
    batch_norm_mix: ChannelMix | None = None,
    per_domain: bool = False,
    strong_views: nn.Module | None = None,
) -> JointForward:
    """Chain of forwards that a `JointModel` runs a batch through, from the outermost to the innermost:

    1. second views of the target rows, if an objective asks for them;
    2. each domain by itself, or batch norm with mixed statistics, if the settings ask for either;
    3. chunks of rows, if the settings ask for them;
    4. the model above its frozen layers, where a batch brings what those give;
    5. the model, with hooks that keep its features.

    Args:
        model: plain or PEFT-wrapped, with a linear head; it is hooked.
        head: from `find_head`.
        objectives: the features that they read are kept.
        teachers: layers that objectives compare with theirs are kept.
        chunk_rows: how many rows the model runs on at a time while training; all of a batch when `None`.
        batch_norm: `"joint"` runs both domains in one forward; `"separate"` in two, so that batch norm sees each
            domain by itself, and its running statistics are the target's; `"frozen"` in one, with the running
            statistics as they are; `"stochastic"` in one, with `batch_norm_mix`.
        batch_norm_mix: chooses the channels of batch norms that use their running statistics while training.
        per_domain: run the model on source rows and on the others one after the other, each without the other's
            padding.
        strong_views: changes the model inputs of second views.

    Example:
        >>> head = find_head(model, batch)
        >>> forward = build_forward(model, head, chunk_rows=16)  # 16 rows at a time
        >>> joint_model = JointModel(model, head, TaskLoss(), forward=forward)
    """
    compared_layers = (
        set() if teachers is None else {i for layers in teachers.compared_layers.values() for i in layers}
    )
    features = FeatureForward(
        model,
        head,
        () if objectives is None else objectives.feature_layers.values(),
        sorted(compared_layers),
        teachers is not None and teachers.attention,
    )
    from_states = FrozenLayersForward(features)
    chain: Forward = from_states
    if chunk_rows is not None:
        chain = ChunkedForward(chain, chunk_rows)
    if batch_norm_mix is not None:
        chain = MixedNormForward(chain, batch_norm_mix)
    elif batch_norm == "separate" or per_domain:
        chain = PerDomainForward(chain, target_statistics=batch_norm == "separate")
    if objectives is not None and any(map(objectives.ask_for, VIEW_INPUTS)):
        chain = SecondViewsForward(chain, strong_views)
    return JointForward(chain, features, from_states, batch_norm == "frozen", batch_norm_mix, strong_views)
