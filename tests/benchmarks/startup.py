"""What starting up on a large csv costs: reading, checking and tokenising it, beside `datasets` doing the bare work.

    OMP_NUM_THREADS=1 python tests/benchmarks/startup.py

Each program runs in a process of its own with an empty cache, by turns; imports are not counted. The bare work is
`datasets.load_dataset` on the file and one batched `map` of the tokenizer. Ours ends where training would begin: split
for validation, classes found, every row checked, tokenised, its length known.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from machine import describe, median_ms, verdict

HERE = Path(__file__).parent
BARE = """
from datasets import load_dataset
import sys, time
sys.path.insert(0, sys.argv[2])
import tiny
tokenizer = tiny.tokenizer()
begun = time.process_time()
rows = load_dataset("csv", data_files=sys.argv[1], split="train")
rows.map(lambda batch: tokenizer(batch["text"], truncation=True, max_length=64), batched=True, remove_columns=["text"])
print(time.process_time() - begun)
"""
OURS = """
import sys, time
sys.path.insert(0, sys.argv[2])
import tiny
from hftransfer import AdaptationConfig
from hftransfer.data.domain_loading import load_shift
from hftransfer.trainers.setup.preparation import prepare
model, tokenizer = tiny.bert([f"class {i}" for i in range(20)]), tiny.tokenizer()
args = AdaptationConfig(output_dir=sys.argv[3], use_cpu=True, report_to="none")
begun = time.process_time()
data = load_shift({"source": sys.argv[1]}, None, 0.1, 42)
prepare(model, args, data.train, None, data.validation, tokenizer)
print(time.process_time() - begun)
"""


def write_csv(path: Path, rows: int) -> None:
    """Rows of five to forty words, a comma in each, and one of twenty labels."""
    draw = random.Random(0)
    words = [f"w{i}" for i in range(40)]
    with open(path, "w", encoding="utf-8") as file:
        file.write("text,label\n")
        for _ in range(rows):
            text = " ".join(draw.choices(words, k=draw.randint(5, 40)))
            file.write(f'"{text}, and so on",class {draw.randrange(20)}\n')


def seconds(program: str, csv: Path, folder: Path) -> float:
    """Processor time of the child's work, imports aside."""
    environment = os.environ | {
        "HF_DATASETS_CACHE": tempfile.mkdtemp(dir=folder),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", program, str(csv), str(HERE.parent), tempfile.mkdtemp(dir=folder)]
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    return float(json.loads(done.stdout.split()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--goal", type=float, default=1.5, help="times the bare work")
    args = parser.parse_args()
    print(describe())
    with tempfile.TemporaryDirectory() as place:
        csv = Path(place) / "rows.csv"
        write_csv(csv, args.rows)
        taken: dict[str, list[float]] = {"datasets and tokenizer": [], "hftransfer": []}
        for _ in range(args.repeats):
            for name, program in zip(taken, (BARE, OURS), strict=True):
                taken[name].append(seconds(program, csv, Path(place)))
    ms = {name: median_ms(values) for name, values in taken.items()}
    for name, value in ms.items():
        print(f"{name:>24}: {value / 1e3:6.1f} s for {args.rows:,} rows")
    print(verdict("times the bare work", ms["hftransfer"] / ms["datasets and tokenizer"], args.goal))


if __name__ == "__main__":
    main()
