"""One rank of a run with batch norm: its own rows, everybody's statistics."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from safetensors.torch import save_file


def work(folder: str) -> None:
    import blobs
    import runs

    from hftransfer import AdaptationTrainer, adapt_batch_norm
    from hftransfer.models.batch_norm_statistics import average_statistics

    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    args = runs.config(f"{folder}/run", batch_norm="separate", ddp_backend="gloo", eval_strategy="steps", eval_steps=1)
    trainer = AdaptationTrainer(
        blobs.resnet(),
        args,
        blobs.domain(20, 0),
        blobs.domain(21, 1, 80, labelled=False),
        blobs.domain(12, 3),
        blobs.processor(),
    )
    trainer.train()
    model = trainer.model.model
    _write(model, f"{folder}/trained-{rank}.safetensors")

    _stochastic(f"{folder}/stochastic", rank)

    model = blobs.resnet()
    for buffer in batch_statistics(model):
        buffer.fill_(1.0 + 2 * rank)
    average_statistics(model)
    _write(model, f"{folder}/averaged-{rank}.safetensors")

    model = blobs.resnet()
    adapt_batch_norm(model, parts()[rank::2])
    _write(model, f"{folder}/adapted-{rank}.safetensors")
    dist.destroy_process_group()


def _stochastic(folder: str, rank: int) -> None:
    """A run of two steps; keeps which channels each of its forwards chose."""
    import blobs
    import runs

    from hftransfer import AdaptationTrainer

    trainer = AdaptationTrainer(
        blobs.resnet(),
        runs.config(folder, batch_norm="stochastic", ddp_backend="gloo"),
        blobs.domain(20, 0),
        blobs.domain(21, 1, 80, labelled=False),
        processing_class=blobs.processor(),
    )
    mix, chosen = trainer.model.batch_norm_mix, []
    choose = mix._choose
    mix._choose = lambda widths: chosen.append(choose(widths)) or chosen[-1]
    trainer.train()
    state = {f"chosen.{i}": torch.cat(each) for i, each in enumerate(chosen)}
    save_file(state | {"step": mix.step}, f"{folder}-{rank}.safetensors")


def parts() -> list[dict[str, torch.Tensor]]:
    """Batches of unequal sizes, three for one process and two for the other."""
    x = 3 + torch.randn(23, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return [{"pixel_values": part} for part in x.tensor_split((4, 9, 11, 20))]


def batch_statistics(model) -> list[torch.Tensor]:
    return [buffer for name, buffer in model.named_buffers() if "running" in name]


def _write(model, path: str) -> None:
    save_file({n: b.clone() for n, b in model.named_buffers() if "running" in n}, path)
