"""Several adapters over one backbone: one a domain, switched and saved together, or a task adapter over a domain's.

PEFT holds any number of adapters of one kind in a model; this module says which combinations of them are right.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from ..messages import nearest
from .adapters import is_peft
from .atomic_folder import new_folder
from .ingredients import ADAPTER, adapter_config, is_adapter_folder, load_with_head, plain_class
from .model_structure import backbone_prefix

WEIGHTS = "adapter_model.safetensors"
# Two of them active at once compute what the two merged one after the other do. Not so OFT's, whose rotations are
# merged in the other order; LN tuning and AdaLoRA take one adapter at a time.
STACKABLE = ("LORA", "LOHA", "LOKR", "IA3", "BOFT", "VERA", "HRA", "FOURIERFT")


# ---- one adapter a domain


@dataclass(frozen=True)
class AdapterSizes:
    """Disk sizes of adapters and of their backbone, in bytes; `heads` is the share of `adapters` that is heads."""

    adapters: Mapping[str, int]
    heads: Mapping[str, int]
    backbone: int

    @property
    def share(self) -> float:
        """Size of all adapters, heads included, over that of the backbone."""
        return sum(self.adapters.values()) / self.backbone

    def __str__(self) -> str:
        adapter_sizes = ", ".join(f"{n} {size / 2**20:.2f} MiB" for n, size in self.adapters.items())
        heads = sum(self.heads.values()) / 2**20
        return (
            f"{adapter_sizes} (heads {heads:.2f} MiB of it): {100 * self.share:.1f} % of the backbone's "
            f"{self.backbone / 2**20:.1f} MiB"
        )


def load_adapters(
    base: Any,
    folders: Mapping[str, str | os.PathLike[str]] | str | os.PathLike[str],
    labels: Sequence[str] | None = None,
) -> Any:
    """One backbone with an adapter for each domain, the first one active.

    Args:
        base: a plain model, or the Hub id or folder of the backbone (then `labels` are needed).
        folders: adapter folders by domain; or one folder that `save_adapters` wrote.
        labels: label names in the order of the logits.

    Returns:
        A `PeftModel` in eval mode. Adapters bring the heads that they were trained with.

    Raises:
        ValueError: a name that PEFT cannot use, a folder without an adapter, adapters of different kinds or of
            different backbones.
        FileNotFoundError: no such folder.

    Example:
        >>> model = load_adapters(base, {"medical": "runs/medical", "law": "runs/law"})
        >>> set_adapter(model, "law")
    """
    from peft import PeftModel

    paths = _adapter_paths(folders)
    _check_bases(base, paths)
    (first_name, path), *other_paths = paths.items()
    if isinstance(base, (str, os.PathLike)):
        if not labels:
            raise ValueError("`labels` are missing: an adapter's folder does not name its labels. Give them in order.")
        base, _ = load_with_head(os.fspath(base), plain_class(path), labels)
    if is_peft(base):
        raise ValueError("The base is PEFT-wrapped already; give the plain model that the adapters were trained on.")
    model = PeftModel.from_pretrained(base, path, adapter_name=first_name)
    for name, path in other_paths:
        model.load_adapter(path, name)
    return set_adapter(model, first_name)


def set_adapter(model: Any, *names: str) -> Any:
    """The model switched to a domain's adapter and head, frozen, in eval mode; to several at once, one over the other;
    or, without a name, to the backbone alone.

    Raises:
        ValueError: an unknown name, or adapters that cannot be active together.

    Example:
        >>> model = load_adapters(base, {"medical": "runs/medical", "law": "runs/law"})
        >>> set_adapter(model, "law").active_adapters
        ['law']
    """
    check_adapters_exist(model, names)
    if not names:
        model.base_model.disable_adapter_layers()
        return model.eval()
    if len(names) > 1:
        _check_stackable(model, names)
    model.base_model.enable_adapter_layers()
    model.base_model.set_adapter(list(names), inference_mode=True)
    model.active_adapter = names[-1]
    return model.eval()


def save_adapters(model: Any, folder: str | os.PathLike[str]) -> AdapterSizes:
    """A folder with every adapter, each in a folder of its name, written whole or not at all. The backbone is not
    written.

    Returns:
        What they take on disk.

    Raises:
        FileExistsError: the folder exists.

    Example:
        >>> model = load_adapters(base, {"medical": "runs/medical", "law": "runs/law"})
        >>> stored = save_adapters(model, "domains")
        >>> sorted(path.name for path in Path("domains").iterdir())
        ['law', 'medical']
    """
    sizes: dict[str, int] = {}
    heads: dict[str, int] = {}
    prefix = model.base_model.prefix
    with new_folder(folder) as staging:
        for name in model.peft_config:
            model.save_pretrained(staging, selected_adapters=[name])
            adapter_folder = staging / name
            if name == "default":  # PEFT puts it above the others
                adapter_folder.mkdir()
                for file in (ADAPTER, WEIGHTS):
                    os.replace(staging / file, adapter_folder / file)
            sizes[name] = (adapter_folder / WEIGHTS).stat().st_size
            with safe_open(str(adapter_folder / WEIGHTS), "pt") as tensors:
                head_tensors = [tensors.get_tensor(key) for key in tensors.keys() if prefix not in key]
            heads[name] = sum(t.numel() * t.element_size() for t in head_tensors)
        for card in staging.rglob("README.md"):  # PEFT's, which names paths of this machine
            card.unlink()
    return AdapterSizes(sizes, heads, _backbone_bytes(model))


# ---- a task adapter over a domain's


def add_adapter(
    model: Any, peft_config: Any, name: str = "task", domain: str | None = None, freeze_domain: bool = True
) -> Any:
    """A new adapter over a trained one, both active: the domain's adapter stays as it is, the task's learns.

    The head belongs to the new adapter. Where the domain's adapter brings a head, the new one starts from it and the
    old one is let go of: one model has one head at a time.

    Args:
        model: a `PeftModel` with the domain's adapter, trained; changed in place.
        peft_config: of the new adapter, of the same kind; open targets are those of the domain's.
        name: of the new adapter.
        domain: the adapter below; the active one when `None`.
        freeze_domain: `False` trains both at once.

    Returns:
        The model, for `AdaptationTrainer(model=…)`. Merged, it is a plain model with equal logits.

    Raises:
        ValueError: the model has no adapter, the kinds differ, or two of the kind cannot be active at once.

    Example:
        >>> model = load_adapters("runs/teacher", {"medical": "runs/medical"}, labels=["down", "up", "flat"])
        >>> add_adapter(model, LoraConfig(r=2)).active_adapters
        ['medical', 'task']

    Paper: Malik et al., *UDApter: Efficient Domain Adaptation Using Adapters*, EACL 2023.
    """
    if not is_peft(model):
        raise ValueError(f"{type(model).__name__} has no adapter to stack on. Train the domain's adapter first.")
    domain_adapter = domain if domain is not None else model.active_adapters[0]
    check_adapters_exist(model, [domain_adapter])
    check_adapter_name(name, peft_config.peft_type.value)
    if name in model.peft_config:
        raise ValueError(f"There is an adapter {name!r} already; name the new one otherwise.")
    domain_adapter_config = model.peft_config[domain_adapter]
    config = copy.deepcopy(peft_config)
    kinds = [config.peft_type.value, domain_adapter_config.peft_type.value]
    if kinds[0] != kinds[1]:
        raise ValueError(f"The new adapter is {kinds[0]} and the domain's {kinds[1]}; both must be of one kind.")
    _check_stackable(model, [domain_adapter])
    if getattr(config, "target_modules", "") in (None, "all-linear"):
        config.target_modules = copy.copy(domain_adapter_config.target_modules)
        if kinds[0] == "IA3" and config.feedforward_modules is None:
            config.feedforward_modules = copy.copy(domain_adapter_config.feedforward_modules)
    if getattr(config, "exclude_modules", "") is None:
        config.exclude_modules = copy.copy(domain_adapter_config.exclude_modules)
    if getattr(config, "modules_to_save", "") is None:
        config.modules_to_save = domain_adapter_config.modules_to_save or _head_module_names(model.get_base_model())
    model.add_adapter(name, config)
    for wrapper in head_wrappers(model, [domain_adapter]):
        if name in wrapper.modules_to_save:
            wrapper.modules_to_save[name].load_state_dict(wrapper.modules_to_save[domain_adapter].state_dict())
        wrapper.delete_adapter(domain_adapter, new_active_adapters=[])
    domain_adapter_config.modules_to_save = None
    model.base_model.set_adapter([domain_adapter, name])
    model.active_adapter = name
    if freeze_domain:
        model.base_model.set_requires_grad([domain_adapter], False)
    return model


@contextmanager
def active_adapters_kept(model: Any):
    """Unchanged active adapters, and what of them is trainable, inside a `with` block. Loading weights sets both
    anew."""
    if not is_peft(model):
        yield
        return
    active, active_adapter = list(model.active_adapters), model.active_adapter
    requires_grad = {n: p.requires_grad for n, p in model.named_parameters()}
    try:
        yield
    finally:
        model.base_model.set_adapter(active)
        model.active_adapter = active_adapter
        for n, p in model.named_parameters():
            p.requires_grad_(requires_grad[n])


def restore_adapters(model: Any, folder: str | os.PathLike[str]) -> None:
    """Weights of all of a model's adapters, read back from a checkpoint. Which are active stays.

    Raises:
        FileNotFoundError: the checkpoint lacks one of them.
    """
    from peft import set_peft_model_state_dict

    with active_adapters_kept(model):
        for name in model.peft_config:
            file = Path(folder) / ("" if name == "default" else name) / WEIGHTS
            if not file.is_file():
                raise FileNotFoundError(f"{folder} has no weights of the adapter {name!r} ({file} is missing).")
            set_peft_model_state_dict(model, load_file(str(file)), adapter_name=name)


# ---- checks


def _adapter_paths(folders: Any) -> dict[str, str]:
    """Checked adapter folders by name."""
    if isinstance(folders, (str, os.PathLike)):
        root = Path(folders).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(f"There is no folder {str(folders)!r}.")
        folders = {item.name: item for item in sorted(root.iterdir()) if is_adapter_folder(str(item))}
        if not folders:
            raise ValueError(f"{root} holds no folder with an adapter ({ADAPTER}).")
    if not folders:
        raise ValueError("There is no adapter: give a folder for each domain.")
    for name, path in folders.items():
        if not is_adapter_folder(os.fspath(path)):
            raise ValueError(f"{os.fspath(path)} holds no adapter ({ADAPTER} is missing).")
        check_adapter_name(name, str(adapter_config(os.fspath(path)).get("peft_type")))
    return {name: os.fspath(path) for name, path in folders.items()}


def _check_bases(base: Any, paths: Mapping[str, str]) -> None:
    """Check that adapters belong to one backbone and to this base: an adapter fits only the weights that it was
    trained on."""
    configs = {name: adapter_config(path) for name, path in paths.items()}
    (first_name, first_config), *other_configs = configs.items()
    for name, other_config in other_configs:
        for key, described in (("peft_type", "kinds"), ("base_model_name_or_path", "backbones")):
            if first_config.get(key) != other_config.get(key):
                raise ValueError(
                    f"The adapters {first_name!r} and {name!r} are of different {described} ({first_config.get(key)} "
                    "and "
                    f"{other_config.get(key)}): they cannot share one."
                )
    trained_on = first_config.get("base_model_name_or_path")
    base_name = os.fspath(base) if isinstance(base, (str, os.PathLike)) else getattr(base, "name_or_path", "")
    if (
        trained_on
        and base_name
        and trained_on != base_name
        and Path(trained_on).expanduser() != Path(base_name).expanduser()
    ):
        raise ValueError(
            f"The adapters were trained on {trained_on}, the base is {base_name}: an adapter fits only the weights "
            "that it "
            "was trained on. Load that base."
        )


def check_adapters_exist(model: Any, names: Any) -> None:
    """Check that a model has adapters of these names. Raises a `ValueError`."""
    if not is_peft(model):
        raise ValueError(f"{type(model).__name__} has no adapters.")
    for name in names:
        if name not in model.peft_config:
            adapter_names = list(model.peft_config)
            raise ValueError(
                f"There is no adapter {name!r}; there is {', '.join(adapter_names)}.{nearest(name, adapter_names)}"
            )


def check_adapter_name(name: str, peft_type: str) -> None:
    """Check of an adapter's name: PEFT keeps adapters as modules of that name, and confuses substrings of a kind's
    prefix ("lora_") with it."""
    from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

    prefix = {key.value: value for key, value in PEFT_TYPE_TO_PREFIX_MAPPING.items()}.get(peft_type, "")
    reserved_names = ("default", "base_layer", "modules_to_save")
    if name in prefix or name in reserved_names or not re.fullmatch(r"[A-Za-z0-9][\w-]*", name):
        raise ValueError(
            f"{name!r} cannot be an adapter's name: use letters, digits, '-' and '_', not 'default', and no part of "
            f"{prefix!r}."
        )


def _check_stackable(model: Any, names: Sequence[str]) -> None:
    """Check that two adapters of these kinds can be active at once. Raises a `ValueError`."""
    for name in names:
        peft_type = model.peft_config[name].peft_type.value
        if peft_type not in STACKABLE:
            raise ValueError(f"Two {peft_type} adapters cannot be active at once; of {', '.join(STACKABLE)} they can.")


def head_wrappers(model: Any, names: Any) -> list[Any]:
    """Wrappers of the modules of which an adapter holds a copy of its own: heads, mostly."""
    from peft.utils import ModulesToSaveWrapper

    wrappers = [m for m in model.modules() if isinstance(m, ModulesToSaveWrapper)]
    return [m for m in wrappers if any(name in m.modules_to_save for name in names)]


def _head_module_names(model: nn.Module) -> list[str]:
    """Names of the modules outside the backbone, and of those inside it that the checkpoint lacked (a pooler)."""
    prefix = backbone_prefix(model)
    head = [n for n, m in model.named_children() if n != prefix and any(True for _ in m.parameters())]
    fresh_modules = sorted({key.rpartition(".")[0] for key in getattr(model, "fresh_weights", ())})
    return head + [name for name in fresh_modules if not f"{name}.".startswith(tuple(f"{h}." for h in head))]


def _backbone_bytes(model: Any) -> int:
    """Bytes of the plain model's parameters, without any adapter's."""
    from peft import get_peft_model_state_dict

    size = sum(p.numel() * p.element_size() for p in model.parameters())
    for name in model.peft_config:
        adapter_weights = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
        size -= sum(t.numel() * t.element_size() for t in adapter_weights.values())
    return size
