"""Made-up facts for the adaptation report: everything there is, with hostile text in it."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from hftransfer.reporting.adaptation_facts import (
    AdaptationFacts,
    CalibrationFacts,
    CandidateFacts,
    ChangedRow,
    ClassFacts,
    ConfidenceFacts,
    CostFacts,
    FeatureFacts,
    LabelShiftFacts,
    ReliabilityBins,
)

SCRIPT = "<script>alert('x')</script>"
CLASSES = ['"better" & <b>bold</b>', "שלום עולם", f"$x_1$ --> {SCRIPT}"]
BARE = AdaptationFacts("source-only", "Nothing is estimated to help.", source="news", target="notes")


def png(height: int, width: int) -> bytes:
    """Grey picture as a PNG file."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes([128] * width) for _ in range(height))))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def full_facts(oracle: bool = True, text: str = SCRIPT) -> AdaptationFacts:
    """Facts of every section; `text` stands wherever text of others may stand."""
    draw = np.random.default_rng(0)
    frequencies = np.array([0.2, 0.3, 0.5])
    bins = ReliabilityBins(np.array([0.4, 0.6, 0.9]), np.array([0.3, 0.5, 0.8]), np.array([0, 5, 9]), 0.1)
    labels = [0.1, 0.4, 0.5] if oracle else [None] * 3
    return AdaptationFacts(
        "adapted",
        f"The student is handed over {text}.",
        source=f"news {text}",
        target=f"notes {text}",
        reasons=[f"It ranks first {text}."],
        estimated_accuracy=(0.78, 0.74, 0.82),
        estimated_accuracy_source_only=(0.74, 0.70, 0.78),
        load_lines=[f'model = pipeline("text-classification", "runs/{text}")'],
        output_folder=f"mine {text}",
        backbone=f"mini {text}",
        effort="standard",
        seeds=[1, 2],
        rows={f"source {text}": 1200},
        versions={"torch": text},
        looks=[f"No duplicates {text}."],
        warnings=[f"A candidate crashed {text}."],
        candidates=[
            CandidateFacts(
                "source-only",
                f"as it is {text}",
                {"snd": 0.5, f"score {text}": 0.1},
                2.0,
                reference=True,
                oracle={"accuracy": 0.738} if oracle else {},
                source_accuracy=0.81,
                seconds=100,
                relative_cost=1,
            ),
            CandidateFacts(
                f"student {text}",
                "",
                {"snd": 0.6},
                1.0,
                chosen=True,
                oracle={"accuracy": 0.779, f"odd {text}": 0.5} if oracle else {},
                source_accuracy=0.8,
                seconds=180,
            ),
            CandidateFacts("wild", "", {"snd": float("nan")}, refused=f"one class only {text}", seconds=3),
        ],
        label_shift=LabelShiftFacts(
            CLASSES,
            frequencies,
            frequencies[::-1],
            np.array([[0.4, 0.6], [0.2, 0.4], [0.1, 0.3]]),
            np.array([2.5, 1.0, 0.4]),
            True,
            f"It explains most {text}.",
            frequencies,
            frequencies[::-1],
            frequencies[::-1] if oracle else None,
        ),
        confidences=ConfidenceFacts(draw.uniform(0.3, 1, 50), draw.uniform(0.5, 1, 50), draw.uniform(0.6, 1, 50)),
        features=FeatureFacts(
            CLASSES,
            draw.normal(size=(20, 5)),
            draw.normal(size=(30, 5)),
            draw.integers(3, size=20),
            draw.integers(3, size=30),
            draw.normal(size=(20, 7)),
            draw.normal(size=(30, 7)),
            draw.integers(3, size=30),
        ),
        classes=[
            ClassFacts(name, 0.8, 0.7, 0.3, 0.2, 0.2, share, share, share)
            for name, share in zip(CLASSES, labels, strict=True)
        ],
        calibration=CalibrationFacts(bins, bins, 1.5),
        changed_rows=[
            ChangedRow(CLASSES[0], CLASSES[1], f"It was {text}", oracle_label=text if oracle else ""),
            ChangedRow("a", "b", tokens=[("un", 0.1), ("##like", -0.5), (text, 1.0)], confidence_after=0.9),
            ChangedRow("a", "b", image=png(300, 240), patches=np.eye(3)),
        ],
        cost=CostFacts(400, 20),
    )
