"""Speed of masked language training: packed rows against padded ones, and masked positions against all.

    OMP_NUM_THREADS=1 python tests/benchmarks/packing.py --data ../shared/data

MiniLM with a masked-language head, on sentences of medical abstracts. Each variant sees the same rows in the same
batches with the same words masked, drawn at random as packing draws them; forward and backward are timed, on the
processor time of this process, since others may share the machine. Variants take turns, and medians are compared.
"""

from __future__ import annotations

import argparse
import csv
import logging
import re
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from machine import describe, verdict

from hftransfer.data.text_encoder import TextColumns
from hftransfer.data.word_masking import WordMasking
from hftransfer.models.masked_language_head import MaskedLanguageHead
from hftransfer.pretraining.masked_language_model import load_masked_language_model
from hftransfer.pretraining.masking_collator import MaskingCollator
from hftransfer.pretraining.packed_attention import find_packed_attention, padded_inputs
from hftransfer.pretraining.pretraining_model import PretrainingModel
from hftransfer.pretraining.text_rows import tokenize_rows

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
SENTENCE = re.compile(r"(?<=[.!?])\s+")
ABSTRACTS = 150  # that rows are drawn from


def read_texts(data: Path, abstracts: int, cut: bool) -> list[str]:
    """Medical abstracts, or their sentences."""
    path = data / "medical_abstracts_tc" / "train.csv"
    with open(path, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        texts = [row["text"] for _, row in zip(range(abstracts), rows, strict=False)]
    return [part for text in texts for part in SENTENCE.split(text) if part.strip()] if cut else texts


def batches(rows: Dataset, masking: WordMasking, pad_id: int, size: int, count: int, pack_length: int | None) -> list:
    """The same rows for every variant, packed or padded."""
    collator = MaskingCollator(masking, pad_id, seed=0, pack_length=pack_length)
    order = np.random.default_rng(0).permutation(len(rows))[: size * count].reshape(count, size)
    return [collator([{**rows[int(i)], "domain": 0, "draw": (int(i), 0)} for i in part]) for part in order]


def seconds(joint: PretrainingModel, batch: dict) -> float:
    """Processor time of a forward and a backward."""
    start = time.process_time()
    joint(**batch).loss.backward()
    joint.zero_grad(set_to_none=True)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds medical_abstracts_tc/")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--rows", type=int, default=32, help="of a batch")
    parser.add_argument("--steps", type=int, default=4, help="of each variant")
    parser.add_argument("--pack_length", type=int, default=128)
    parser.add_argument("--abstracts", action="store_true", help="whole abstracts instead of their sentences")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    model, tokenizer = load_masked_language_model(args.model)
    model.train()
    texts = read_texts(args.data, ABSTRACTS, cut=not args.abstracts)
    rows = tokenize_rows(Dataset.from_dict({"text": texts}), tokenizer, TextColumns(), "texts", 256)
    masking = WordMasking.for_tokenizer(tokenizer)
    attention, reason = find_packed_attention(model, masking.random_ids.tolist(), 256)
    if attention is None:
        raise SystemExit(f"{args.model} cannot be packed: {reason}.")
    made = {
        packed: batches(
            rows, masking, tokenizer.pad_token_id, args.rows, args.steps, args.pack_length * packed or None
        )
        for packed in (True, False)
    }
    head = MaskedLanguageHead(model, padded_inputs(made[False][0]))
    variants = [("packed", "masked"), ("packed", "all"), ("padded", "masked")]
    times: dict[tuple[str, str], list[float]] = {variant: [] for variant in variants}
    tokens = [int((batch["segments"] >= 0).sum()) for batch in made[False]]
    for step in range(args.steps):
        for variant in variants:
            packed = variant[0] == "packed"
            head.selects = variant[1] == "masked"
            joint = PretrainingModel(model, head, attention if packed else None)
            times[variant].append(seconds(joint, made[packed][step]) / tokens[step])
    speed = {variant: 1 / statistics.median(values) for variant, values in times.items()}
    shares = [1 - sum(tokens) / sum(batch["input_ids"].numel() for batch in made[packed]) for packed in (True, False)]
    lengths = np.array(rows["length"])
    print(describe())
    print(
        f"{args.model}, {args.rows} rows a batch, {args.steps} steps, median length {np.median(lengths):.0f} tokens; "
        f"padding: packed {100 * shares[0]:.1f} %, padded {100 * shares[1]:.1f} %"
    )
    for (layout, positions), value in speed.items():
        print(f"  {layout}, {positions} positions projected: {value:,.0f} tokens per second of processor time")
    print(verdict("packed over padded", speed["packed", "masked"] / speed["padded", "masked"], 1.6, at_least=True))
    print(f"masked positions over all, packed: {speed['packed', 'masked'] / speed['packed', 'all']:.2f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
