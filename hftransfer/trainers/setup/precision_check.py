"""Precision of a run: check that bfloat16 is supported where it is asked for."""

from __future__ import annotations

from transformers import TrainingArguments
from transformers.utils import is_torch_bf16_gpu_available


def check_precision(args: TrainingArguments) -> None:
    """Check of precision settings that `TrainingArguments` refuses without naming the setting or the way out.

    Raises:
        ValueError: bfloat16 is asked for, and no accelerator computes in it.
    """
    if (args.bf16 or args.bf16_full_eval) and not args.use_cpu and not is_torch_bf16_gpu_available():
        name = "bf16" if args.bf16 else "bf16_full_eval"
        raise ValueError(
            f"{name}=True, but no accelerator of this machine computes in bfloat16. Leave it off; use_cpu=True "
            "runs it on the CPU, where it is mostly slower than float32."
        )
