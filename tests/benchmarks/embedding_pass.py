"""Cost of frozen features: rows per second beside sentence-transformers, padding, a second use, training of a head.

    python tests/benchmarks/embedding_pass.py --data ../shared/data

Product reviews through MiniLM (mean of the tokens, at most 256), in seconds of processor time of this process.
sentence-transformers is compared where it is installed; hftransfer does not need it.

A head is trained twice, from the same weights, for so many epochs at the same rate: on what the classifier reads
(`pooling="head"`), computed once, the pass counted; and by the stock Trainer, which runs the frozen backbone in each
epoch. Both heads are scored on the same test reviews; a few rows and epochs say nothing of their difference.
"""

from __future__ import annotations

import argparse
import copy
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
RATE = 1e-3  # of a head


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


def stock_head(
    model: Any, texts: list[str], labels: list[int], options: argparse.Namespace
) -> tuple[float, torch.nn.Linear]:
    """Seconds of transformers' Trainer with a frozen backbone, and the head that it trained."""
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    tokenizer = load_tokenizer(MODEL)
    model.bert.requires_grad_(False)
    rows = [
        {**tokenizer(text, truncation=True, max_length=LENGTH), "labels": label}
        for text, label in zip(texts, labels, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            folder, num_train_epochs=options.epochs, per_device_train_batch_size=options.batch_size,
            learning_rate=RATE, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        trainer = Trainer(model, args, DataCollatorWithPadding(tokenizer), datasets.Dataset.from_list(rows))
        return spent(trainer.train)[0], model.classifier


def head_from_features(
    head: torch.nn.Linear, features: np.ndarray, labels: list[int], options: argparse.Namespace
) -> float:
    """Seconds of as many epochs of a head on features, with the same dropout, rate and schedule; it is trained."""
    torch.manual_seed(0)
    dropout = torch.nn.Dropout(0.1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.0)
    rows = torch.utils.data.TensorDataset(torch.tensor(np.array(features)), torch.tensor(labels))
    loader = torch.utils.data.DataLoader(rows, options.batch_size, shuffle=True)
    steps = options.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)

    def train() -> None:
        for _ in range(options.epochs):
            for x, y in loader:
                torch.nn.functional.cross_entropy(head(dropout(x)), y).backward()
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()

    return spent(train)[0]


def accuracy(head: torch.nn.Linear, features: np.ndarray, labels: list[int]) -> float:
    """Per cent of rows that a head names right."""
    with torch.no_grad():
        predicted = head(torch.tensor(np.array(features))).argmax(1)
    return 100 * float((predicted == torch.tensor(labels)).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds amazon_reviews/")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--test_rows", type=int, default=1000, help="that heads are scored on")
    parser.add_argument("--epochs", type=int, default=10, help="of a head")
    parser.add_argument("--batch_size", type=int, default=32)
    args = parser.parse_args()
    datasets.disable_progress_bars()

    def reviews(split: str, rows: int) -> tuple[list[str], list[int]]:
        data = datasets.Dataset.from_csv(str(args.data / "amazon_reviews" / f"books_{split}.csv"))
        data = data.select(range(min(rows, len(data))))
        names = sorted(set(data["label"]))
        return list(data["text"]), [names.index(label) for label in data["label"]]

    texts, labels = reviews("train", args.rows)
    test_texts, test_labels = reviews("test", args.test_rows)
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
    with tempfile.TemporaryDirectory() as cache:
        embedder = Embedder(
            MODEL, "head", max_length=LENGTH, batch_size=args.batch_size, cache_dir=cache, device="cpu", progress=False
        )
        embedder.transform(texts[:8])
        reading, features = spent(lambda: np.array(embedder.transform(texts)))
        model: Any = load_model(MODEL, "sequence-classification", ("0", "1"), quiet=True)
        head = copy.deepcopy(model.classifier)
        training = head_from_features(head, features, labels, args)
        stock_seconds, stock = stock_head(model, texts, labels, args)
        ratio = stock_seconds / (reading + training)
        print(f"a head, {args.epochs} epochs: {reading:.1f} s once and {training:.2f} s; stock {stock_seconds:.1f} s")
        faster = stock_seconds / training
        print(verdict("an epoch of a head from the cache is so many times faster than stock", faster, 100, True))
        print(verdict("a head from the cache, the pass counted, is so many times faster than stock", ratio, 8, True))
        test_features = np.array(embedder.transform(test_texts))
    ours, theirs = (accuracy(each, test_features, test_labels) for each in (head, stock))
    print(f"accuracy on {len(test_texts)} test reviews: {ours:.2f} from the cache, {theirs:.2f} stock")
    print(verdict("difference of the accuracies, in points", abs(ours - theirs), 0.3))


if __name__ == "__main__":
    main()
