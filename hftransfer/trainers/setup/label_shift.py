"""Label shift in a run: its estimate, and the correction of the saved head's bias."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from ...data.pairing import PairedDataset
from ...objectives.label_shift_weights import LabelShift
from ..config import AdaptationConfig
from ..step.joint_model import JointModel
from ..step.objective_inputs import TOKENS_PER_ROW
from .preparation import Prepared

MOST_ROWS = 4096  # of the target between two estimates; of a stream, a quarter


def build_label_shift(args: AdaptationConfig, prepared: Prepared) -> LabelShift | None:
    """Label shift estimate of a run; `None` without one.

    Raises:
        ValueError: no target, no classes, or a head without the bias that is to be corrected.
    """
    if args.label_shift == "none":
        return None
    if prepared.label_space.is_float:
        raise ValueError(f"label_shift={args.label_shift!r} needs classes; {prepared.label_space.task} has none.")
    train = prepared.train
    if getattr(train, "num_target", None) == 0:
        raise ValueError(f"label_shift={args.label_shift!r} needs target rows: pass a target_dataset.")
    if args.label_shift_task == "bias" and prepared.model.get_submodule(prepared.head.name).bias is None:
        raise ValueError(f"label_shift_task='bias', but the head {prepared.head.name!r} has no bias; use 'weights'.")
    words_per_row = TOKENS_PER_ROW if prepared.label_space.task == "token-classification" else 1
    rows = MOST_ROWS // 4
    if isinstance(train, PairedDataset):  # an epoch's, or all of a target that an epoch sees more than once
        rows = min(
            MOST_ROWS,
            words_per_row * train.num_target,
            words_per_row * max(1, round(train.num_source * args.target_ratio)),
        )
    return LabelShift(
        len(prepared.label_space.names), args.label_shift, rows, weighs_task=args.label_shift_task == "weights"
    )


@torch.no_grad()
def correct_bias(joint_model: JointModel) -> None:
    """Bias of the head, corrected for label shift.

    log w is added: p(k | x) becomes proportional to w_k p(k | x), the target's posterior.
    """
    label_shift = joint_model.task_loss.label_shift
    if label_shift is None:
        return
    head: Any = joint_model.model.get_submodule(joint_model.head_name)
    bias = head.bias
    correction = label_shift.weights.log().to(bias.dtype)
    if isinstance(bias, DTensor):
        correction = distribute_tensor(correction, bias.device_mesh, bias.placements)
    bias.add_(correction)
