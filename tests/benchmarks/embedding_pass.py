"""Cost of frozen features: rows per second beside sentence-transformers, padding, a second use, epochs of a head.

    python tests/benchmarks/embedding_pass.py --data ../shared/data

Product reviews through MiniLM (mean of the tokens, at most 256), in seconds of processor time of this process.
sentence-transformers is compared where it is installed; hftransfer does not need it. A head's epoch from the cache is
a linear layer on the features that were read; the stock Trainer runs the frozen backbone in each epoch.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from machine import describe, verdict

from hftransfer import Embedder
from hftransfer.models.pretrained import load_model, load_tokenizer, local_folder

MODEL, LENGTH = "sentence-transformers/all-MiniLM-L6-v2", 256


def spent(job: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of processor time of a job, and what it gives."""
    began = time.process_time()
    made = job()
    return time.process_time() - began, made


def beside_sentence_transformers(texts: list[str], ours: np.ndarray, batch_size: int) -> tuple[float, float] | None:
    """Seconds of its `encode`, and the largest difference of the features; `None` where it is not installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(local_folder(MODEL)), device="cpu")
    encoder.max_seq_length = LENGTH
    encoder.encode(texts[:8])
    seconds, theirs = spent(lambda: encoder.encode(texts, batch_size=batch_size, show_progress_bar=False))
    if not np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-3) and np.allclose(np.linalg.norm(theirs, axis=1), 1):
        ours = ours / np.linalg.norm(ours, axis=1, keepdims=True)
    return seconds, float(np.abs(theirs - ours).max())


def stock_epoch(texts: list[str], labels: list[int], batch_size: int) -> float:
    """Seconds of one epoch of transformers' Trainer whose backbone is frozen."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    model, tokenizer = load_model(MODEL, "sequence-classification", ("0", "1"), quiet=True), load_tokenizer(MODEL)
    model.bert.requires_grad_(False)
    rows = [
        {**tokenizer(text, truncation=True, max_length=LENGTH), "labels": label}
        for text, label in zip(texts, labels, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, num_train_epochs=1, per_device_train_batch_size=batch_size, save_strategy="no", report_to="none",
            disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        trainer = Trainer(model, args, DataCollatorWithPadding(tokenizer), datasets.Dataset.from_list(rows))
        return spent(trainer.train)[0]


def head_epoch(features: np.ndarray, labels: list[int], batch_size: int) -> float:
    """Seconds of one epoch of a linear head on features."""
    head = torch.nn.Linear(features.shape[1], 2)
    optimizer = torch.optim.AdamW(head.parameters())
    rows = torch.utils.data.TensorDataset(torch.tensor(np.array(features)), torch.tensor(labels))

    def epoch() -> None:
        for x, y in torch.utils.data.DataLoader(rows, batch_size, shuffle=True):
            torch.nn.functional.cross_entropy(head(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()

    epoch()
    return spent(epoch)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds amazon_reviews/")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--batch_size", type=int, default=32)
    args = parser.parse_args()
    datasets.disable_progress_bars()
    file = str(args.data / "amazon_reviews" / "books_train.csv")
    reviews = datasets.Dataset.from_csv(file).select(range(args.rows))
    texts, names = list(reviews["text"]), sorted(set(reviews["label"]))
    labels = [names.index(label) for label in reviews["label"]]
    print(f"{describe()}; {args.rows} reviews, batches of {args.batch_size}")
    with tempfile.TemporaryDirectory() as cache:
        embedder = Embedder(
            MODEL, max_length=LENGTH, batch_size=args.batch_size, cache_dir=cache, device="cpu", progress=False
        )
        embedder.transform(texts[:8])  # loads the model
        first, embeddings = spent(lambda: embedder.embed(texts))
        print(f"first use: {args.rows / first:.1f} rows/s; second use and others by processor time, too")
        print(verdict("padding: %", 100 * embeddings.statistics.padding, 10))
        again, read = spent(lambda: embedder.embed(texts))
        assert read.statistics.computed == 0
        print(verdict("a second use is so many times faster", first / again, 20, at_least=True))
        features = np.array(read.features)
    peer = beside_sentence_transformers(texts, features, args.batch_size)
    if peer is None:
        print("sentence-transformers is not installed: not compared")
    else:
        print(verdict("rows per second, of those of sentence-transformers", peer[0] / first, 1, at_least=True))
        print(verdict("largest difference of the features, in 1e-5", 1e5 * peer[1], 1))
    stock, head = stock_epoch(texts, labels, args.batch_size), head_epoch(features, labels, args.batch_size)
    print(verdict("an epoch of a head from the cache is so many times faster than stock", stock / head, 100, True))


if __name__ == "__main__":
    main()
