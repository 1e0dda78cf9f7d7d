"""For the type checker: what the parts of the trainer may rely on. At run time they are plain mixins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import Trainer

    from ..data.labels import LabelSpace
    from ..models.freezing import TrainableReport
    from .config import AdaptationConfig
    from .setup.preparation import Prepared

    class Host(Trainer):
        args: AdaptationConfig
        model: Any
        hub_model_id: Any
        space: LabelSpace
        trainable: TrainableReport
        source_names: tuple[str, ...]
        prepared: Prepared

        @property
        def merges_adapter(self) -> bool: ...

else:
    Host = object
