"""Masked-language head: predictions over the vocabulary at masked positions only.

Most positions of a row have no label, and the projection onto the vocabulary is the dearest layer of a small encoder.
The head of a masked language model is what stands behind its backbone and works position by position, so it may be
given the positions with labels alone. No table of architectures says so: one forward does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers.utils import ModelOutput

from .adapters import plain_model
from .module_mode import module_mode

TOLERANCE = 1e-3  # of a probe's logits, which kernels of other shapes may round otherwise


class MaskedLanguageHead:
    """Predictions of a masked language model at some positions, and the hidden states that they were made from.

    Where the model's head works position by position (BERT, RoBERTa, DistilBERT, ModernBERT, …), it reads those
    positions only; elsewhere it reads all, and the rows of the logits are picked afterwards. The values are the same.

    Args:
        model: an `AutoModelForMaskedLM`, PEFT-wrapped or not.
        probe: model inputs of a row or more, to see how its head works.

    Attributes:
        selects: whether the head reads the given positions only.

    Raises:
        ValueError: the model's logits are not one row of numbers for each token.

    Example:
        >>> from transformers import BertConfig, BertForMaskedLM
        >>> sizes = {"vocab_size": 64, "hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2}
        >>> masked_model = BertForMaskedLM(BertConfig(num_hidden_layers=1, **sizes)).eval()
        >>> head = MaskedLanguageHead(masked_model, batch)
        >>> logits, hidden = head(batch, torch.tensor([1, 2, 6]))
        >>> head.selects, logits.shape, hidden.shape
        (True, torch.Size([3, 64]), torch.Size([2, 4, 8]))
    """

    def __init__(self, model: Any, probe: dict[str, torch.Tensor]):
        self.model = model
        self._positions: torch.Tensor | None = None  # while a forward asks for some
        self._hidden: torch.Tensor | None = None
        backbone = find_backbone(model)
        self._hook = None if backbone is None else backbone.register_forward_hook(self._intercept)
        self.selects = False
        self.selects = self._agrees(probe)

    def __call__(self, inputs: dict[str, Any], positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits at the positions, and the backbone's last hidden states.

        Args:
            inputs: of the model, (rows, tokens).
            positions: (masked,) in the rows laid end to end: row * tokens + token.

        Returns:
            Logits, (masked, vocabulary); hidden states, (rows, tokens, width), `None` where no backbone was found.
        """
        self._positions = positions
        try:
            logits = self.model(**inputs).logits
        finally:
            self._positions = None
        hidden, self._hidden = self._hidden, None
        logits = logits.reshape(-1, logits.shape[-1])
        return (logits if self.selects else logits[positions]), hidden

    def remove(self) -> None:
        """The model as it was, without the hook."""
        if self._hook is not None:
            self._hook.remove()

    def _intercept(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Output of the backbone, cut to the positions while a forward asks for some."""
        if self._positions is None:
            return output
        hidden = output[0]
        self._hidden = hidden
        if not self.selects:
            return output
        chosen = hidden.reshape(1, -1, hidden.shape[-1])[:, self._positions]
        if isinstance(output, tuple):
            return (chosen, *output[1:])
        return _with_first(output, chosen)

    def _agrees(self, probe: dict[str, torch.Tensor]) -> bool:
        """Whether the head gives the same logits when it reads a few positions only."""
        device = next(self.model.parameters()).device
        inputs = {name: tensor.to(device) for name, tensor in probe.items()}
        ids = inputs["input_ids"]
        positions = torch.arange(1, ids.numel(), 2, device=device)
        with module_mode(self.model), torch.no_grad():
            logits = self.model(**inputs).logits
            if logits.shape[:2] != ids.shape:
                raise ValueError(
                    f"{type(plain_model(self.model)).__name__} gives logits of shape {tuple(logits.shape)} for "
                    f"{tuple(ids.shape)} tokens, and a masked language model gives one row for each token."
                )
            expected = logits.reshape(-1, logits.shape[-1])[positions]
            if self._hook is None:
                return False
            self.selects = True
            try:
                found, _ = self(inputs, positions)
            except (
                RuntimeError,
                IndexError,
                TypeError,
                AttributeError,
                ValueError,
            ):  # a head that needs the whole row
                return False
            finally:
                self.selects = False
        same_shape = found.shape == expected.shape
        return same_shape and bool(torch.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE))

    def __getstate__(self) -> dict[str, Any]:
        """State without the last forward's tensors: a copy of the model copies its hooks."""
        return {**self.__dict__, "_positions": None, "_hidden": None}


def find_backbone(model: Any) -> nn.Module | None:
    """The module whose output the head reads; `None` where the family names none."""
    inner = plain_model(model)
    backbone = getattr(inner, "base_model", None)
    return backbone if isinstance(backbone, nn.Module) and backbone is not inner else None


def _with_first(output: ModelOutput, value: torch.Tensor) -> Any:
    """A copy of a model's output with another first field."""
    first = next(iter(output.keys()))
    return replace(output, **{first: value})  # type: ignore[type-var]  # outputs are data classes


def masked_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    r"""Masked-language loss, summed: \(-\sum_i \log \mathrm{softmax}(z_i)_{y_i}\). Shapes: (masked, vocabulary),
    (masked,) -> ().

    Args:
        logits: at the masked positions.
        labels: what stood there.

    Example:
        >>> masked_loss(torch.zeros(2, 8), torch.tensor([1, 3])).item()
        4.158...
    """
    return nn.functional.cross_entropy(logits.float() if logits.dtype in HALVES else logits, labels, reduction="sum")


HALVES = (torch.float16, torch.bfloat16)
