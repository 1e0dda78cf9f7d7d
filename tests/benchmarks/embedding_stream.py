"""Memory and speed of a pass over a long stream of short rows.

    python tests/benchmarks/embedding_stream.py --rows 1000000

The rows are generated, different from each other, and never kept. The backbone is a BERT of two layers of width 64
with random weights, so that the pass itself is what is seen. Memory is what the process holds beside mapped files
(RssAnon of /proc/self/status, Linux), looked at every tenth of the rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from datasets import IterableDataset
from machine import describe
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from hftransfer import embed

WORDS = 1000


def held() -> float:
    """Megabytes of memory of this process that no file is mapped to."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def stream(rows: int, seen: list[tuple[int, float, float]]) -> Any:
    """Generated rows; notes memory and time on the way."""
    tenth, began = max(1, rows // 10), time.monotonic()

    def generate() -> Any:
        seen.clear()
        for i in range(rows):
            if i % tenth == 0:
                seen.append((i, held(), time.monotonic() - began))
            yield {"text": f"w{i % WORDS} w{i // WORDS % WORDS} w{i // WORDS**2} w{i * 7 % WORDS}"}

    return IterableDataset.from_generator(generate)


def small_encoder() -> tuple[BertModel, PreTrainedTokenizerFast]:
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {f"w{i}": i + 2 for i in range(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128
    )
    return BertModel(config).eval(), PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    print(describe())
    model, tokenizer = small_encoder()
    seen: list[tuple[int, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        made = embed(
            stream(args.rows, seen), model, processing_class=tokenizer, cache_dir=folder, progress=False, device="cpu"
        )
        seconds = time.monotonic() - began
        assert len(made.features) == args.rows
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 2**20
        began = time.monotonic()
        again = embed(
            stream(args.rows, []), model, processing_class=tokenizer, cache_dir=folder, progress=False, device="cpu"
        )
        second = time.monotonic() - began
        assert again.statistics.computed == 0
    for row, memory, at in seen:
        print(f"row {row:>9,}: {memory:6.0f} MB, {at:5.0f} s")
    print(f"end: {held():6.0f} MB; {args.rows / seconds:,.0f} rows/s; {size:,.0f} MB on disk; again {second:.0f} s")


if __name__ == "__main__":
    main()
