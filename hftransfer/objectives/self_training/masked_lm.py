"""Masked language modelling on the target beside the task on the source, in one step (UDALM)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from ..base import MaskedForward, Objective, Range, VocabularyFacts


class MaskedLM(Objective):
    r"""Masked language modelling: hidden words of target rows are predicted, while the task is learned on the source.

    With h the last hidden state at a masked token, w the word that stood there, and E the model's own word embeddings,

    \[-\frac1{|M|}\sum_{i \in M} \log \mathrm{softmax}\big(E\, g(h_i) + b\big)_{w_i},\qquad
      g(h) = \mathrm{LayerNorm}\big(\mathrm{GELU}(W h + c)\big)\]

    over the masked tokens M of the target rows of all processes. Whole words are masked; of them 80 % are hidden
    behind the mask token, 10 % are replaced by random tokens, 10 % stay. Only masked tokens are projected on the
    vocabulary.

    W, c, the layer norm and b train with the objectives and are in checkpoints, not in the saved model. Where the
    model's checkpoint holds a masked-language head of this form (BERT, RoBERTa, DistilBERT, ModernBERT, …), they start
    from it. Which words are masked is a function of the call's number and a row's tokens, so that a resumed run is the
    same to the bit, and a row is masked alike on whichever process it is and however it is padded.

    Args:
        feature_dim: of features; the width of states where there is no vocabulary.
        vocabulary: of the model; without one, as many words and columns as features have.
        probability: share of the tokens that are masked.

    Shapes: a `MaskedForward` of (k, d) states, (k,) labels and (V, e) embeddings -> ().

    Paper: Karouzos, Paraskevopoulos and Potamianos, UDALM: Unsupervised Domain Adaptation through Language Modeling,
    NAACL 2021.

    Example:
        >>> objective = MaskedLM(feature_dim=8, vocabulary=VocabularyFacts(size=64, width=8, state_width=8))
        >>> objective.logits(torch.zeros(2, 8), torch.zeros(64, 8)).shape
        torch.Size([2, 64])
    """

    calls: torch.Tensor
    paper = "Karouzos et al., UDALM: Unsupervised Domain Adaptation through Language Modeling, NAACL 2021"
    default_weight = 0.1
    search: ClassVar = {"weight": Range(0.01, 1.0, log=True), "probability": Range(0.1, 0.4)}

    def __init__(self, feature_dim: int, vocabulary: VocabularyFacts | None = None, probability: float = 0.15):
        super().__init__()
        number: Any = probability
        if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < 1:
            raise ValueError(f"probability={probability!r} must be above 0 and below 1.")
        vocabulary = vocabulary or VocabularyFacts(feature_dim, feature_dim, feature_dim)
        self.probability = float(probability)
        self.dense = nn.Linear(vocabulary.state_width, vocabulary.width)
        self.norm = nn.LayerNorm(vocabulary.width)
        self.bias = nn.Parameter(torch.zeros(vocabulary.size))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, masked_target_forward: MaskedForward) -> torch.Tensor:
        masked = masked_target_forward(int(self.calls), self.probability)
        self.calls += 1
        logits = self.logits(masked.states, masked.embeddings)
        return nn.functional.cross_entropy(logits, masked.labels, reduction="sum") / masked.count

    def logits(self, states: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """Scores of all words, (k, V), from states (k, d) and word embeddings (V, e)."""
        return self.norm(nn.functional.gelu(self.dense(states))) @ embeddings.T + self.bias
