"""Share of padding among the tokens of an epoch, with length-aware batches off and on, on real news and medical text.

    python tests/benchmarks/padding.py --data ../shared/data

Batches of 16 source + 16 target rows, as training makes them (`PairedBatchSampler`, `AdaptationCollator`): both halves
are padded to one length, since the model sees them in one forward. So part of the padding is the price of domains
whose lengths differ: the floor is what would remain with single rows paired by rank of length, which no sampler that
uses all rows alike can pass. "Own" is what is left when each half is padded by itself.
"""

from __future__ import annotations

import argparse
import logging
import time
from itertools import islice
from pathlib import Path

import datasets
import numpy as np
from machine import describe, verdict

from hftransfer.data.collation import AdaptationCollator
from hftransfer.data.label_space import LabelSpace
from hftransfer.data.label_space_resolution import resolve_label_space
from hftransfer.data.pairing import PairedBatchSampler, PairedDataset
from hftransfer.data.text_encoder import TextColumns, TextEncoder, encode_text
from hftransfer.models.feature_hook import find_head
from hftransfer.models.pretrained import load_model, load_tokenizer
from hftransfer.trainers.step.forward_chain import build_forward
from hftransfer.trainers.step.joint_model import JointModel

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
ROWS = 16


def padding(dataset: PairedDataset, collator: AdaptationCollator, length_aware: bool) -> tuple[float, float]:
    """Per cent of padding in three epochs: of the batches as they are, and of their halves padded each by itself."""
    sampler = PairedBatchSampler(dataset, ROWS, group_by_length=length_aware)
    joint = own = real = 0
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for indices in sampler:
            mask = collator(dataset.__getitems__(indices))["attention_mask"]
            joint, real = joint + mask.numel(), real + int(mask.sum())
            own += sum(len(half) * int(half.sum(1).max()) for half in (mask[:ROWS], mask[ROWS:]))
    return 100 * (1 - real / joint), 100 * (1 - real / own)


def floor(dataset: PairedDataset) -> float:
    """Per cent of padding when every source row meets the target row of the same rank."""
    share = np.linspace(0, 1, 10_001)
    source = np.quantile(dataset.lengths[: dataset.num_source], share)
    target = np.quantile(dataset.lengths[dataset.num_source :], share)
    return 100 * (1 - (source + target).mean() / (2 * np.maximum(source, target)).mean())


def steps(dataset: PairedDataset, collator: AdaptationCollator, space: LabelSpace, many: int = 24) -> float:
    """Processor time of steps with the halves in turn, over that of one forward of both."""
    model = load_model(MODEL, space.task, space.names)
    batches = [collator(dataset.__getitems__(i)) for i in islice(PairedBatchSampler(dataset, ROWS), many)]
    head = find_head(model, {k: v[:2] for k, v in batches[0].items() if k in ("input_ids", "attention_mask")})
    spent: dict[bool, list[float]] = {False: [], True: []}
    for batch in batches:
        for by_domain in spent:
            adapter = JointModel(model, head, forward=build_forward(model, head, per_domain=by_domain)).train()
            began = time.process_time()
            adapter(**batch).loss.backward()
            spent[by_domain].append(time.process_time() - began)
            model.zero_grad()
    return sum(spent[True][2:]) / sum(spent[False][2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds press_pubmed_causal/")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    folder = args.data / "press_pubmed_causal"
    press, pubmed = (
        datasets.Dataset.from_csv(str(folder / f"{name}_train.csv")).select_columns(["text", "label"])
        for name in ("press", "pubmed")
    )
    columns, tokenizer = TextColumns(), load_tokenizer(MODEL)
    space = resolve_label_space({"press": press}, columns.label, columns.tokens, None, None)
    source = encode_text(press, tokenizer, space, columns, "press", columns.label, 512)
    target = encode_text(pubmed, tokenizer, space, columns, "pubmed", None, 512)
    paired, collator = (
        PairedDataset({"press": source}, target),
        AdaptationCollator(TextEncoder(tokenizer, space), space, by_domain=True),
    )
    print(describe())
    print("length-aware off: {:.1f} % padding, own {:.1f} %".format(*padding(paired, collator, False)))
    joint, own = padding(paired, collator, True)
    print(f"{verdict('length-aware on: % padding', joint, 10)}, floor {floor(paired):.1f} %")
    print(verdict("the same with forward_by_domain: % padding", own, 10))
    print(f"a step with forward_by_domain: {steps(paired, collator, space):.2f} of the time")


if __name__ == "__main__":
    main()
