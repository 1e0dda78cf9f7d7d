"""What each objective adds to a MiniLM step with 32 + 32 rows of 64 tokens, on the CPU.

    OMP_NUM_THREADS=1 python tests/benchmarks/step_share.py

The step is the model's forward, backward and AdamW on the joint batch. An objective's own forward and backward are
timed on features and logits of the same size; its parameters' part of AdamW is counted. Two objectives run rows again
(`nt_xent` the target's second view, `vat` the target twice): for these whole steps are compared. Medians of process
time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from machine import describe, median_ms
from torch import nn

from hftransfer.models.feature_hook import find_head
from hftransfer.models.pretrained import load_model
from hftransfer.objectives import build_objectives, parse_objectives
from hftransfer.objectives.registry import REGISTRY
from hftransfer.trainers.step.joint_model import JointModel
from hftransfer.trainers.step.objective_set import ObjectiveSet

ROWS, TOKENS, CLASSES, GOAL = 32, 64, 4, 0.05
MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def timed(run: Callable[[], None], repeats: int) -> float:
    """Median milliseconds; the first run warms up."""
    seconds = []
    for _ in range(repeats + 1):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    return median_ms(seconds[1:])


ASKS_MORE = (
    "masked_",
    "teacher_",
    "layer_pairs",
    "attention_pairs",
    "trained_weights",
    "class_vectors",
    "features",
    "logits",
)


def whole_step(kind: str | None) -> Callable[[], None]:
    """Forward, backward and AdamW of a joint batch, with an objective or without."""
    model = load_model(MODEL, "sequence-classification", [str(k) for k in range(CLASSES)]).train()
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 20000, (2 * ROWS, TOKENS), generator=g)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    labels = torch.cat([torch.randint(0, CLASSES, (ROWS,), generator=g), torch.full((ROWS,), -100)])
    domain = torch.cat([torch.zeros(ROWS, dtype=torch.long), torch.full((ROWS,), -1)])
    head = find_head(model, {k: v[:2] for k, v in inputs.items()})
    specs = parse_objectives({kind: {"weight": 1.0, "schedule": "constant"}} if kind else None)
    objectives, schedules = build_objectives(specs, head.in_features, CLASSES)
    adapter = JointModel(
        model, head, objectives=ObjectiveSet(objectives, {s.name: s.weight for s in specs}, schedules)
    ).train()
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        adapter(labels=labels, domain=domain, num_source=ROWS, **inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def own_step(kind: str, width: int) -> Callable[[], None]:
    """An objective's own forward, backward and AdamW."""
    modules, _ = build_objectives(parse_objectives({kind: 1.0}), width, CLASSES)
    objective: nn.Module = modules[kind]
    g = torch.Generator().manual_seed(0)
    given = {
        f"{side}_{what}": torch.randn(ROWS, size, generator=g).requires_grad_()
        for side in ("source", "target")
        for what, size in (("features", width), ("logits", CLASSES))
    } | {
        "source_labels": torch.randint(0, CLASSES, (ROWS,), generator=g),
        "source_weights": torch.ones(()).expand(ROWS),
        "source_domains": torch.zeros(ROWS, dtype=torch.long),
        "strength": torch.ones(()),
    }
    parameters = [*objective.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True) if parameters else None

    def step() -> None:
        value = objective(**{name: given[name] for name in objective.needs()})
        if value.requires_grad:
            value.backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5, help="whole MiniLM steps, which take a second each")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(describe())
    plain = timed(whole_step(None), args.steps)
    print(f"a step without an objective: {plain:.0f} ms\n\n| objective | share of the step |\n|---|---|")
    for kind, cls in REGISTRY.items():
        if any(need.startswith(ASKS_MORE) for need in cls.reads({}).values()) or kind == "constraint":
            continue  # a tokenizer, a teacher, or weights of one's own: tests/benchmarks/low_label.py times whole runs
        again = {"target_view_features", "perturbed_target_forward"} & set(cls.needs())
        if again:
            print(f"| `{kind}` | {timed(whole_step(kind), args.steps) / plain:.2f} times the step |", flush=True)
            continue
        share = timed(own_step(kind, 384), args.repeats) / plain
        print(f"| `{kind}` | {100 * share:.1f} %{'' if share <= GOAL else ' (over)'} |", flush=True)


if __name__ == "__main__":
    main()
