"""Adapter arithmetic: weighted sums and differences of LoRA adapters."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from .domain_adapters import check_adapter_name, check_adapters_exist, head_wrappers, set_adapter


@torch.no_grad()
def combine_adapters(model: Any, weights: Mapping[str, float], name: str, head: str | None = None) -> Any:
    r"""Weighted sum of LoRA adapters: a new adapter whose change of every weight is the sum of the others' changes,
    exactly.

    \[\Delta W = \sum_i w_i \, \Delta W_i, \qquad \Delta W_i = c_i B_i A_i\]

    The factors are put side by side, so ranks add up. Negative weights take a domain away. PEFT's own
    `add_weighted_adapter` refuses adapters that bring heads, and its scale is wrong under rank-stabilised LoRA.

    Args:
        model: with LoRA adapters.
        weights: of adapters, by name.
        name: of the new one, which is switched on.
        head: whose head is taken; `None` takes the weighted mean of the heads, for which weights must sum to 1.

    Returns:
        The model.

    Raises:
        ValueError: adapters that are not LoRA (DoRA's change of a weight is no sum of factors), a name that is taken
            or unknown, or heads that cannot be averaged.

    Example:
        >>> model = load_adapters(base, {"medical": "runs/medical", "law": "runs/law"})
        >>> model = combine_adapters(model, {"medical": 1.0, "law": -0.5}, "medical-without-law", head="medical")
        >>> model.active_adapters
        ['medical-without-law']

    Paper: Zhang et al., *Composing Parameter-Efficient Modules with Arithmetic Operations*, NeurIPS 2023.
    """
    from peft.tuners.lora import LoraLayer

    if not weights:
        raise ValueError("weights is empty: name the adapters to add up.")
    check_adapters_exist(model, weights)
    check_adapter_name(name, "LORA")
    if name in model.peft_config:
        raise ValueError(f"There is an adapter {name!r} already; name the sum otherwise.")
    configs = {adapter: model.peft_config[adapter] for adapter in weights}
    for adapter, config in configs.items():
        method = config.peft_type.value + (" with DoRA" if getattr(config, "use_dora", False) else "")
        if method != "LORA" or config.lora_bias or config.bias != "none":
            raise ValueError(
                f"{adapter!r} is {method}{' with biases' if method == 'LORA' else ''}: only plain LoRA adapters add "
                "up. "
                "Merge each one, and average the merged models with `Mixture`."
            )
    wrappers = head_wrappers(model, weights)
    if head is not None:
        check_adapters_exist(model, [head])
    elif wrappers and abs(sum(weights.values()) - 1) > 1e-6:
        raise ValueError(
            f"The adapters bring heads, and the weights sum to {sum(weights.values()):g}: no mean of heads. Name the "
            f"adapter whose head is taken, as head={next(iter(weights))!r}."
        )
    ranks = {adapter: max([config.r, *config.rank_pattern.values()]) for adapter, config in configs.items()}
    config = copy.deepcopy(next(iter(configs.values())))
    config.r = config.lora_alpha = sum(ranks.values())
    config.rank_pattern, config.alpha_pattern, config.use_rslora = {}, {}, False
    config.init_lora_weights, config.lora_dropout = True, 0.0
    config.target_modules = _joint_targets(configs)
    saved_modules = {module for other in configs.values() for module in other.modules_to_save or ()}
    config.modules_to_save = sorted(saved_modules) or None
    model.add_adapter(name, config)
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and layer.active_adapters is not None:
            _fill_combined_factors(layer, weights, name)
    for wrapper in wrappers:
        mean = {n: torch.zeros_like(p, dtype=torch.float64) for n, p in wrapper.original_module.state_dict().items()}
        for adapter, weight in ({head: 1.0} if head is not None else weights).items():
            adapter_head = (
                wrapper.modules_to_save[adapter] if adapter in wrapper.modules_to_save else wrapper.original_module
            )
            for key, tensor in adapter_head.state_dict().items():
                mean[key] += weight * tensor.double()
        wrapper.modules_to_save[name].load_state_dict(mean)
    return set_adapter(model, name)


def _fill_combined_factors(layer: Any, weights: Mapping[str, float], name: str) -> None:
    """One layer's factors of the sum, filled in place."""
    for down, up in ((layer.lora_A, layer.lora_B), (layer.lora_embedding_A, layer.lora_embedding_B)):
        if name not in down:
            continue
        factors = [
            (_factor_weight(down[a]), _factor_weight(up[a]), w * layer.scaling[a])
            for a, w in weights.items()
            if a in down
        ]
        new_down, new_up = _factor_weight(down[name]), _factor_weight(up[name])
        new_down.zero_()
        new_up.zero_()
        if factors:
            a = torch.cat([scale * x.double() for x, _, scale in factors], 0)
            b = torch.cat([y.double() for _, y, _ in factors], 1)
            new_down[: a.shape[0]].copy_(a)
            new_up[:, : b.shape[1]].copy_(b)


def _factor_weight(factor: Any) -> torch.Tensor:
    """A factor's tensor: of embeddings it is a parameter, otherwise a layer's weight."""
    parameter: Any = getattr(factor, "weight", factor)
    return parameter.data


def _joint_targets(configs: Mapping[str, Any]) -> Any:
    """Union of the adapters' target modules."""
    targets = [config.target_modules for config in configs.values()]
    if all(isinstance(target, str) for target in targets):
        return "|".join(f"({target})" for target in dict.fromkeys(targets))
    if any(isinstance(target, str) for target in targets):
        raise ValueError("Some adapters name their targets by a pattern and others by a list; use one way for all.")
    return sorted({name for target in targets for name in target})
