"""Every objective on two processes, under DDP and under FSDP2, against one process.

The references come first: each is computed by one process alone, on the union batch. Then both share the work. Three
SGD steps each, so that queues fill and parameters part ways if anything is wrong. Writes JSON to the file: {case:
{wrapping: {"loss": largest difference, "gradient": largest difference, "seen": largest value of the objective}}}.
"""

from __future__ import annotations

import functools
import json
import os
from unittest import mock

import pytest
import tiny
import torch
import torch.distributed as dist
from anchored import teacher_set
from domains import encoded
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.nn.parallel import DistributedDataParallel

from hftransfer.data.collation import AdaptationCollator
from hftransfer.data.label_space import LabelSpace
from hftransfer.data.text_encoder import TextEncoder
from hftransfer.models.feature_hook import find_head
from hftransfer.objectives.base import VocabularyFacts
from hftransfer.objectives.label_shift_weights import LabelShift
from hftransfer.objectives.registry import REGISTRY
from hftransfer.objectives.specification import build_objectives, parse_objectives
from hftransfer.trainers.step.forward_chain import build_forward
from hftransfer.trainers.step.joint_model import JointModel
from hftransfer.trainers.step.masked_forward import WordHiding
from hftransfer.trainers.step.objective_inputs import TOKENS_PER_ROW
from hftransfer.trainers.step.objective_set import ObjectiveSet
from hftransfer.trainers.step.task_loss import TaskLoss
from hftransfer.trainers.teachers.weight_average import WeightAverage

WORLD, ROWS, STEPS, RATE, CLASSES = 2, 4, 3, 0.1, len(tiny.LABELS)
TASKS = {"sequence": "sequence-classification", "token": "token-classification"}
NEEDED = {
    "supcon": {"threshold": 0.34, "queue": 12},  # an untrained model is never 90 % sure
    "prototype": {"threshold": 0.34},
    "mdd": {"margin": 0.5},  # steps of SGD this long would throw the defaults far off, and rounding with them
    "wdgrl": {"penalty": 1.0, "hidden": 16},  # its slopes jump where a unit switches on: few units, few jumps
    "osbp": {"hidden": 16},  # so do its gradients, and rounding may switch a unit
    "coral": {"mean_weight": 1.0},  # covariances of features this small are too small to compare
    "l2_sp": {"alpha": 0.002, "beta": 0.1},  # losses near 1, so that rounding is small beside 1e-5
    "bss": {"k": 20},  # words that are picked twice leave small singular values at 0
    "bi_tuning": {"temperature": 0.5, "queue": 4},
    "delta": {"weight": 0.03},
    "constraint": {"proportions": {"up": [0.9, 1.0]}, "method": "lagrangian"},
}
VARIANTS = {
    "mmd_queue": {"kind": "mmd", "queue": 12},
    "mmd_biased_median": {"kind": "mmd", "estimator": "biased", "bandwidth": "median"},
    "mmd_linear": {"kind": "mmd", "estimator": "linear"},
    "dsan_unbiased": {"kind": "dsan", "estimator": "unbiased"},
    "deepjdot_sinkhorn": {"kind": "deepjdot", "regularization": 0.1},
    "dann_each": {"kind": "dann", "sources": "each"},
    "mmd_hidden": {"kind": "mmd", "features": "hidden:0"},
    "mmd_by_domain": {"kind": "mmd"},  # source and target in two calls of the model
    "mmd_label_shift": {"kind": "mmd"},  # with class weights that are estimated anew at each step
    "cdan_randomized": {"kind": "cdan", "randomized": True, "random_dim": 64},
    "fixmatch_aligned": {"kind": "fixmatch", "per_class": True, "distribution_alignment": True},
    "fixmatch_of_target": {"kind": "fixmatch", "relative_to": "target"},
    "prototype_contrast": {"kind": "prototype", "threshold": 0.0, "distance": "cosine", "temperature": 0.1},
    "supcon_chunk": {"kind": "supcon", "threshold": 0.34, "queue": 12, "chunk": 3},
    "nt_xent_queue": {"kind": "nt_xent", "queue": 12, "chunk": 3},
    "distill_target": {"kind": "distill_logits", "rows": "target"},
    "distill_hidden": {"kind": "distill_features", "features": "hidden:0"},
}
OBJECTIVES = {name: NEEDED.get(name, {}) for name in REGISTRY} | VARIANTS
NOT_SHARDED = ("vat", "mixup", "mean_teacher", "masked_lm")  # they say so themselves
VOCABULARY = VocabularyFacts(size=64, width=32, state_width=32)  # of `tiny.bert`
LOCAL = "mmd_of_each_process"  # what a loss without gathering computes: shows that the harness can tell


def build(task: str, name: str) -> JointModel:
    spec = {"kind": "mmd"} if name == LOCAL else OBJECTIVES[name]
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = tiny.bert(tagging=task == "token", initializer_range=0.2, **still)  # features as far apart as trained ones
    head = find_head(model, {"input_ids": torch.tensor([[2, 5, 3]])})
    weight = 1.5 * REGISTRY[spec.get("kind", name)].default_weight
    specs = parse_objectives({name: {"weight": weight, **spec}})

    def other():
        return tiny.bert(tagging=task == "token", initializer_range=0.2, seed=1, **still)

    teachers = teacher_set(model, other, head, specs)
    facts = (lambda layer: ()) if teachers is None else teachers.facts
    modules, schedules = build_objectives(
        specs, head.in_features, CLASSES, 1, tiny.LABELS, TASKS[task], facts, VOCABULARY
    )
    weights, layers = {s.name: s.weight for s in specs}, {s.name: s.features for s in specs}
    objectives = ObjectiveSet(modules, weights, schedules, layers)
    shift = None
    if name.endswith("label_shift"):
        shift = LabelShift(CLASSES, "bbse", rows=WORLD * ROWS * (TOKENS_PER_ROW if task == "token" else 1))
    task_loss = TaskLoss(TASKS[task], label_shift=shift, weighs_classes=True)
    forward = build_forward(model, head, objectives, teachers, per_domain=name.endswith("by_domain"))
    hiding = WordHiding(tiny.tokenizer()) if name == "masked_lm" else None
    average = WeightAverage(model) if name == "mean_teacher" else None
    adapter = JointModel(
        model,
        head,
        task_loss,
        objectives,
        forward=forward,
        teachers=teachers,
        weight_average=average,
        word_hiding=hiding,
    ).train()
    adapter.progress.fill_(0.3)
    return adapter


@functools.cache
def batches(task: str, step: int) -> tuple[dict, list[dict]]:
    """The union batch, and each process's share of it, padded by itself."""
    space = LabelSpace(TASKS[task], tiny.LABELS)
    collate = AdaptationCollator(TextEncoder(tiny.tokenizer(), space), space, by_domain=True)
    source, target = (encoded(task, WORLD * ROWS, seed=10 * step + k, labelled=k == 0) for k in (0, 1))
    union = collate([*source, *target])
    shares = [collate([*source[r : r + ROWS], *target[r : r + ROWS]]) for r in range(0, WORLD * ROWS, ROWS)]
    return union, shares


def train(module, adapter: JointModel, task: str, share: int | None):
    """Loss and gradients by name of each step, of sharded parameters this process's shards; `share` is this process's
    part of the rows, `None` the union."""
    for step in range(STEPS):
        union, shares = batches(task, step)
        items = (union["labels"] != -100).sum() / (1 if share is None else WORLD)
        output = module(**(union if share is None else shares[share]), num_items=items)
        output.loss.backward()
        loss, gradients = output.loss.detach().clone(), {}
        with torch.no_grad():
            for name, parameter in adapter.named_parameters():
                if parameter.grad is None:
                    continue
                gradient = local(parameter.grad).clone()
                local(parameter).sub_(RATE * gradient)
                gradients[name], parameter.grad = gradient, None
        if share is not None:
            dist.all_reduce(loss)
            loss /= WORLD
        yield loss, gradients, output.losses[1].item()


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of it: whole rows, if it is sharded."""
    if not isinstance(tensor, DTensor):
        return tensor
    assert tensor.placements == (Shard(0),)
    return tensor.to_local()


def refused(module, adapter: JointModel, task: str) -> None:
    with pytest.raises(ValueError, match="under DDP"):
        next(train(module, adapter, task, dist.get_rank()))


def compare(reference, found, of_shards: bool) -> dict[str, float]:
    """Of the gradients what this process holds; all processes together hold all."""
    loss, gradient, seen = 0.0, 0.0, 0.0
    for (want_loss, want, part), (got_loss, got, _) in zip(reference, found, strict=True):
        assert want.keys() == got.keys()
        loss = max(loss, abs(want_loss - got_loss).item())
        for name, whole in want.items():
            mine = [*whole.chunk(WORLD), whole[:0]][dist.get_rank()] if of_shards else whole
            assert mine.shape == got[name].shape
            gradient = max(gradient, float((mine - got[name]).abs().max()) if len(mine) else 0.0)
        seen = max(seen, abs(part))
    return {"loss": loss, "gradient": gradient, "seen": seen}


def data_parallel(adapter):
    return DistributedDataParallel(adapter, find_unused_parameters=False, broadcast_buffers=False)


mesh = functools.cache(lambda: init_device_mesh("cpu", (WORLD,)))


def sharded(adapter):
    for layer in adapter.model.bert.encoder.layer:
        fully_shard(layer, mesh=mesh())
    fully_shard(adapter, mesh=mesh())
    assert all(isinstance(p, DTensor) for p in adapter.parameters())
    return adapter


WRAPPINGS = {"ddp": data_parallel, "fsdp2": sharded}


def work(report_file: str, cases: tuple[tuple[str, str, str], ...]) -> None:
    """Each case, a task, an objective and a wrapping."""
    torch.set_num_threads(1)
    mine = {}
    wanted = list(dict.fromkeys(case[:2] for case in cases))
    for task, name in wanted[int(os.environ["RANK"]) :: WORLD]:  # without a process group nothing is gathered
        adapter = build(task, name)
        mine[task, name] = list(train(adapter, adapter, task, None))
    dist.init_process_group("gloo")
    everybodys: list = [None] * WORLD
    dist.all_gather_object(everybodys, mine)
    references = {case: reference for part in everybodys for case, reference in part.items()}
    mine = {}
    for task, name in wanted:
        for wrapping, wrap in WRAPPINGS.items():
            if (task, name, wrapping) not in cases:
                continue
            adapter = build(task, name)
            alone = {"gather_rows": lambda rows: rows, "num_processes": lambda: 1}
            alone = mock.patch.multiple("hftransfer.trainers.step.objective_inputs", **alone)
            if name in NOT_SHARDED and wrapping == "fsdp2":
                refused(wrap(adapter), adapter, task)
                continue
            with alone if name == LOCAL else mock.MagicMock():
                found = list(train(wrap(adapter), adapter, task, dist.get_rank()))
            mine[f"{task}/{name}", wrapping] = compare(references[task, name], found, wrapping == "fsdp2")
    dist.all_gather_object(everybodys, mine)
    report: dict = {}
    for case, wrapping in mine:
        each = [found[case, wrapping] for found in everybodys]
        report.setdefault(case, {})[wrapping] = {key: max(one[key] for one in each) for key in each[0]}
    if dist.get_rank() == 0:
        with open(report_file, "w") as file:
            json.dump(report, file)
    dist.destroy_process_group()
