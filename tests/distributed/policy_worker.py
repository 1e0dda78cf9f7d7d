"""Every policy on one process or several, the stock trainer's way of unfreezing, and FSDP2."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import runs
import tiny
import torch
import torch.distributed as dist
from domains import encoded
from policy_cases import CASES
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainerCallback, TrainingArguments

STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "initializer_range": 0.2}
UPDATES, ROWS = 4, 8


def train(case: str, rows: int, accumulation: int, folder: Path) -> None:
    """Four updates of 8 source rows, however they are cut; the main process writes all weights, before and after."""
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = runs.trainer(
            output_dir,
            model=tiny.bert(**STILL),
            objectives={"dann": 0.1} if "unfreeze" in CASES[case][0] else None,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=accumulation,
            max_steps=UPDATES,
            optim="sgd",
            learning_rate=0.1,
            lr_scheduler_type="constant",
            **CASES[case][0],
        )
        before = runs.copied(trainer.model)
        trainer.train()
        own = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
        apart = (own - trainer.accelerator.reduce(own.clone(), "mean")).abs().max().item()
        if trainer.is_world_process_zero():
            folder.mkdir(parents=True)
            save_file({k: v.detach().contiguous() for k, v in trainer.model.named_parameters()}, folder / "after")
            save_file(before, folder / "before")
            (folder / "apart.json").write_text(json.dumps(apart))
        trainer.accelerator.wait_for_everyone()


class Thaw(TrainerCallback):
    """Unfreezes everything after the first update, as one would by hand."""

    def on_step_begin(self, args, state, control, model, **kwargs):
        if state.global_step == 1:
            model.requires_grad_(True)


def stock(folder: Path) -> float:
    """How far the processes' weights are apart after the stock `Trainer` has unfrozen a model under DDP. Its optimizer
    is given all parameters, so that this is not the other defect."""
    rows = [{"input_ids": [2, 5 + i, 3], "attention_mask": [1, 1, 1], "labels": i % 3} for i in range(24)]
    model = tiny.bert(**STILL)
    model.bert.requires_grad_(False)
    args = TrainingArguments(
        str(folder / "stock"),
        max_steps=UPDATES,
        per_device_train_batch_size=4,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        ddp_find_unused_parameters=True,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, args, train_dataset=rows, optimizers=(optimizer, None), callbacks=[Thaw()])
    trainer.train()
    own = torch.cat([p.detach().flatten() for p in model.parameters()])
    return (own - trainer.accelerator.reduce(own.clone(), "mean")).abs().max().item()


def sharded(rank: int, world: int) -> dict[str, float]:
    """Gradual unfreezing by hand under FSDP2, against the same on one process and all rows: the largest difference of
    any weight, and how far the weights of each block moved."""
    out: dict[str, torch.Tensor] = {}
    for shards in (1, world):
        with tempfile.TemporaryDirectory() as output_dir:
            trainer = runs.trainer(
                output_dir,
                model=tiny.bert(**STILL),
                objectives=None,
                unfreeze={"by": "step", "every": 1},
                optim="sgd",
                learning_rate=0.1,
            )
        adapter = trainer.model
        start = runs.copied(adapter)
        if shards > 1:
            mesh = init_device_mesh("cpu", (world,))
            for layer in adapter.model.bert.encoder.layer:
                fully_shard(layer, mesh=mesh)
            fully_shard(adapter, mesh=mesh)
        optimizer = trainer.create_optimizer()
        moved = []
        for update in range(UPDATES):
            trainer.phases.set_stage(adapter, trainer.phases.stage_at(update))
            adapter.train()
            rows = encoded("sequence", ROWS, seed=update)
            mine = rows if shards == 1 else rows[rank::world]
            adapter(**trainer.data_collator([dict(row) for row in mine])).loss.backward()
            moved.append({n for n, p in adapter.named_parameters() if p.grad is not None})
            optimizer.step()
            optimizer.zero_grad()
        whole = {
            n: (p.full_tensor() if isinstance(p, DTensor) else p).detach().clone()
            for n, p in adapter.named_parameters()
        }
        if shards == 1:
            out, stages = whole, moved
    assert moved == stages
    differ = max((whole[n] - out[n]).abs().max().item() for n in out)
    least = min((whole[n] - start[n]).abs().max().item() for n in out if n.endswith("weight"))
    return {"differ": differ, "least": least, "stages": [len(names) for names in moved]}


def work(folder: str, names: tuple[str, ...]) -> None:
    """Cases on one of two processes, and what is by hand."""
    torch.set_num_threads(1)
    out = Path(folder)
    for name in names:
        train(name, 4, 1, out / name / "two_processes")
        train(name, 2, 2, out / name / "two_processes_accumulated")
    found = {"stock": stock(out), "sharded": sharded(dist.get_rank(), dist.get_world_size())}
    if dist.get_rank() == 0:
        (out / "found.json").write_text(json.dumps(found))
