"""Share of padding among the tokens of an epoch, with length-aware batches off and on, on real news and medical text.

    python tests/benchmarks/padding.py --data ../shared/data

Batches of 16 source + 16 target rows, as training makes them (`PairedBatchSampler`, `AdaptationCollator`): both halves
are padded to one length, since the model sees them in one forward.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import datasets
from machine import describe, verdict

from hftransfer.data.collation import AdaptationCollator
from hftransfer.data.labels import resolve_label_space
from hftransfer.data.pairing import PairedBatchSampler, PairedDataset
from hftransfer.data.text import TextColumns, encode_text
from hftransfer.models.loading import load_tokenizer

ROWS = 16


def padding_share(dataset: PairedDataset, collator: AdaptationCollator, length_aware: bool, epochs: int = 3) -> float:
    """Per cent of the tokens that the model sees."""
    sampler = PairedBatchSampler(dataset, ROWS, group_by_length=length_aware)
    tokens = real = 0
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for indices in sampler:
            mask = collator(dataset.__getitems__(indices))["attention_mask"]
            tokens, real = tokens + mask.numel(), real + int(mask.sum())
    return 100 * (1 - real / tokens)


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
    columns, tokenizer = TextColumns(), load_tokenizer("sentence-transformers/all-MiniLM-L6-v2")
    space = resolve_label_space({"press": press}, columns.label, columns.tokens, None, None)
    source = encode_text(press, tokenizer, space, columns, "press", columns.label, 512)
    target = encode_text(pubmed, tokenizer, space, columns, "pubmed", None, 512)
    paired, collator = PairedDataset({"press": source}, target), AdaptationCollator(tokenizer, space)
    print(describe())
    print(f"length-aware off: {padding_share(paired, collator, False):.1f} % padding")
    print(verdict("length-aware on: % padding", padding_share(paired, collator, True), 10))


if __name__ == "__main__":
    main()
