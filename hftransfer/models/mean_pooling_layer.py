"""Mean pooling as one more layer of an encoder, for classifiers that read the first token."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from .feature_hook import Head
from .model_structure import layer_stack

MEAN_WEIGHT = 1000.0  # of the mean against the first token, which the layer's own shortcut adds
SMALL = 0.01  # what features are multiplied by before the pooler's tanh, which is nearly straight there


def append_mean_pooling(model: Any, head: Head) -> None:
    r"""Layer at the end of an encoder after which the first token is the mean over all tokens, in place.

    Classifiers such as `BertForSequenceClassification` read the first token through a dense layer with a tanh. Most
    sentence encoders were trained for the mean over tokens, which that class cannot read. With one more layer it can:
    with zero queries and keys, attention is the mean over the tokens that are not padding, and with zeros in the
    feed-forward part nothing else happens. The last linear layer then reads

    \[\tanh\!\big(\varepsilon\,\mathrm{LN}(\alpha \bar h + h_1)\big) \approx \varepsilon\,\mathrm{LN}(\bar h)\]

    with \(\bar h\) the mean, \(h_1\) the first token, \(\alpha = 1000\), \(\varepsilon = 0.01\), and LN a layer norm
    without weights: the mean, centred and of one length.

    Args:
        model: a sequence classifier whose layers are laid out as BERT's are (RoBERTa, XLM-R, CamemBERT, MiniLM, ...).
        head: from `find_head`.

    Raises:
        ValueError: its layers are laid out in another way.
    """
    name, stack = layer_stack(model)
    layer: Any = copy.deepcopy(stack[-1])
    dense = [
        module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and path != head.name
        and not path.startswith(f"{name}.")
        and tuple(module.weight.shape) == (head.in_features, head.in_features)
    ]
    try:
        value, output = layer.attention.self.value, layer.attention.output.dense
        norms = (layer.attention.output.LayerNorm, layer.output.LayerNorm)
        own = {id(p) for m in (layer.attention.self, layer.attention.output, layer.intermediate, layer.output)
               for p in m.parameters()}  # fmt: skip
    except AttributeError:
        own = set()
    square = own and all(m.weight.shape == (head.in_features, head.in_features) for m in (value, output))
    if not square or own != {id(p) for p in layer.parameters()} or len(dense) > 1:
        raise ValueError(f"{type(model).__name__} has layers of another kind than BERT's.")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        for norm in norms:
            norm.weight.fill_(1.0)
        value.weight.copy_(torch.eye(head.in_features))
        output.weight.copy_(MEAN_WEIGHT * torch.eye(head.in_features))
        for module in dense:
            module.weight.copy_(SMALL * torch.eye(head.in_features))
            if module.bias is not None:
                module.bias.zero_()
    for part in layer.modules():
        if hasattr(part, "layer_idx"):
            part.layer_idx = len(stack)
    stack.append(layer)
    if hasattr(model, "fresh_weights"):  # those of the dense layer are no longer drawn at random
        model.fresh_weights = [path for path in model.fresh_weights if path.rpartition(".")[0] == head.name]
    model.config.num_hidden_layers = len(stack)
