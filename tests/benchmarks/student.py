"""A student of less than half its teacher's size, distilled on unlabelled target text; resumable, one line a cell.

    python tests/benchmarks/student.py --data DIR --seeds 1 2 3

The teacher is MiniLM fine-tuned on press releases, as source-only in `news_to_medical.py`. The student has some of its
layers and a vocabulary cut to the tokens of both domains' training texts, and sees these texts with the teacher's
answers: no label of either domain. `--more` adds medical text that is no part of the shift: of each abstract in a csv
the last three sentences, where conclusions stand. Settings are chosen by how near the student's answers are to the
teacher's on unlabelled target validation text (`--split validation`, which reads no target label); columns called
oracle are of the test split alone. Speed is from text to label, tokenizer included, both by turns in one process.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import re
import statistics
import time
from pathlib import Path

import news_to_medical
import numpy as np
from scipy.special import log_softmax

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
OBJECTIVES = {"distill_logits": {"weight": 1.0}, "distill_features": {"weight": 10.0}}
SPEED_ROWS, SPEED_BATCH, SPEED_ROUNDS = 128, 32, 7
SECONDS = "seconds.json"  # beside a finished student
SIZED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def config(folder: Path, seed: int, epochs: float, learning_rate: float, **more):
    from hftransfer import AdaptationConfig

    return AdaptationConfig(
        output_dir=str(folder),
        overwrite_output_dir=True,
        num_train_epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=100,
        report_to=[],
        **more,
    )


def make_teacher(folder: Path, source, seed: int) -> Path:
    """Source-only fine-tuning; a folder that is there is taken as it is."""
    from hftransfer import AdaptationTrainer

    if not (folder / "config.json").is_file():
        trainer = AdaptationTrainer(MODEL, config(folder, seed, 2.0, news_to_medical.RATES["full"]), source)
        trainer.train()
        trainer.save_model()
    return folder


def make_student(folder: Path, teacher: Path, source, target, vocabulary, seed: int, settings: dict) -> float:
    """Fewer layers, fewer tokens, the teacher's answers; returns the seconds of training.

    A finished student with these settings is taken as it is.
    """
    if (folder / SECONDS).is_file():
        return json.loads((folder / SECONDS).read_text())
    import torch

    from hftransfer import AdaptationTrainer, cut_vocabulary, transplant

    torch.manual_seed(seed)
    tokenizer = cut_vocabulary(str(teacher), vocabulary)
    student = transplant(str(teacher), layers=settings["layers"], tokenizer=tokenizer)
    args = config(
        folder,
        seed,
        settings["epochs"],
        settings["learning_rate"],
        objectives=settings["objectives"],
        teacher=str(teacher),
        task_weight=0.0,
    )
    trainer = AdaptationTrainer(student.model, args, source, target, processing_class=tokenizer)
    began = time.time()
    trainer.train()
    seconds = time.time() - began
    trainer.save_model()
    (folder / SECONDS).write_text(json.dumps(seconds))
    return seconds


class Saved:
    """A saved model as anybody loads it."""

    def __init__(self, folder: Path):
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.megabytes = sum(f.stat().st_size for f in folder.glob("*") if f.name in SIZED) / 1e6

    def logits(self, texts: list[str]) -> np.ndarray:
        """(rows, classes)."""
        import torch

        found = []
        for i in range(0, len(texts), SPEED_BATCH):
            batch = self.tokenizer(texts[i : i + SPEED_BATCH], padding=True, truncation=True, return_tensors="pt")
            with torch.no_grad():
                found.append(self.model(**batch).logits.numpy())
        return np.concatenate(found)


def rows_per_second(models: dict[str, Saved], texts: list[str]) -> dict[str, float]:
    """Medians over rounds in which the models take turns; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(1 + SPEED_ROUNDS):
        for name, model in models.items():
            began = time.perf_counter()
            model.logits(texts)
            seconds[name].append(time.perf_counter() - began)
    return {name: len(texts) / statistics.median(found[1:]) for name, found in seconds.items()}


def conclusions(file: Path, known: set[str]) -> list[str]:
    """The last three sentences of each text, but those in `known`, fragments and what is longer than most."""
    with file.open(newline="") as rows:
        texts = [re.split(r"(?<=[.!?])\s+", row["text"].strip())[-3:] for row in csv.DictReader(rows)]
    return [s for s in dict.fromkeys(s for text in texts for s in text) if 40 <= len(s) <= 300 and s not in known]


def run_cell(data: Path, runs: Path, seed: int, split: str, settings: dict) -> dict:
    import torch
    from datasets import Dataset

    source, target = news_to_medical.load(data, "press", "train")
    source_held, target_held = news_to_medical.load(data, "press", split)
    texts = list(target["text"])
    if settings["more"]:
        held = [news_to_medical.load(data, "press", part)[1]["text"] for part in ("validation", "test")]
        texts += conclusions(data / settings["more"], set(texts).union(*held))
    teacher = make_teacher(runs / f"teacher-{seed}", source, seed)
    named = hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=4).hexdigest()
    folder = runs / f"student-{named}-{seed}"
    vocabulary = [*source["text"], *target["text"]]
    seconds = make_student(folder, teacher, source, Dataset.from_dict({"text": texts}), vocabulary, seed, settings)
    models = {"teacher": Saved(teacher), "student": Saved(folder)}
    row: dict = {"seed": seed, "split": split, **settings, "target_texts": len(texts), "seconds": round(seconds, 1)}
    logits = {name: (m.logits(source_held["text"]), m.logits(target_held["text"])) for name, m in models.items()}
    for i, domain in enumerate(("source", "target")):
        said, wanted = log_softmax(logits["student"][i], axis=-1), log_softmax(logits["teacher"][i], axis=-1)
        row[f"{domain}_agreement"] = float(np.mean(wanted.argmax(-1) == said.argmax(-1)))
        row[f"{domain}_divergence"] = float(np.mean(np.sum(np.exp(wanted) * (wanted - said), axis=-1)))
    for name, (on_source, on_target) in ((name, [z.argmax(-1) for z in each]) for name, each in logits.items()):
        row[f"{name}_source_accuracy"] = float(np.mean(on_source == np.array(source_held["label"])))
        if split == "test":
            truth = np.array(target_held["label"])
            row[f"{name}_target_oracle_accuracy"] = float(np.mean(on_target == truth))
            row[f"{name}_target_oracle_macro_f1"] = macro_f1(truth, on_target)
        row[f"{name}_parameters"] = models[name].parameters
        row[f"{name}_megabytes"] = round(models[name].megabytes, 1)
    speed = rows_per_second(models, target_held["text"][:SPEED_ROWS])
    row |= {f"{name}_rows_per_second": round(value, 1) for name, value in speed.items()}
    return row | {"threads": torch.get_num_threads()}


def macro_f1(truth: np.ndarray, said: np.ndarray) -> float:
    """Mean over classes of 2·hits / (rows + answers)."""
    of_class = [(truth == c, said == c) for c in np.unique(truth)]
    return float(np.mean([2 * np.sum(is_it & says) / (np.sum(is_it) + np.sum(says)) for is_it, says in of_class]))


def table(rows: list[dict]) -> str:
    """Teacher and student, mean ± standard deviation over seeds, in per cent."""
    lines = [
        "| | seeds | parameters | MB | rows/s | source acc | target acc (oracle) | target macro F1 (oracle) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in ("teacher", "student"):
        cells = []
        for key in ("source_accuracy", "target_oracle_accuracy", "target_oracle_macro_f1"):
            values = [100 * row[f"{name}_{key}"] for row in rows]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        size = f"{rows[0][f'{name}_parameters'] / 1e6:.1f} M | {rows[0][f'{name}_megabytes']:.0f}"
        speed = f"{statistics.mean(row[f'{name}_rows_per_second'] for row in rows):.0f}"
        lines.append(f"| {name} | {len(rows)} | {size} | {speed} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/student"), help="where models are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--layers", type=int, nargs="+", default=[4], help="how many, or which")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--learning_rate", type=float, default=3e-4)
    parser.add_argument("--more", default="", help="a csv under the data with a column `text`, for more target text")
    parser.add_argument("--objectives", type=json.loads, default=OBJECTIVES)
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--out", type=Path, default=Path("runs/student.jsonl"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    settings = {key: getattr(args, key) for key in ("layers", "epochs", "learning_rate", "objectives", "more")}
    settings["layers"] = args.layers if len(args.layers) > 1 else args.layers[0]
    chosen = []
    for seed in args.seeds:
        key = {"seed": seed, "split": args.split, **settings}
        row = next((row for row in rows if all(row[k] == v for k, v in key.items())), None)
        if row is None:
            row = run_cell(args.data, args.runs, seed, args.split, settings)
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
        chosen.append(row)
        print(json.dumps(row), flush=True)
    if args.split == "test":
        print(table(chosen))


if __name__ == "__main__":
    main()
