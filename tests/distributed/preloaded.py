"""What the server of forked test processes imports once, so that each of them starts at once."""

import gc

import conftest  # noqa: F401
import killing  # noqa: F401
import transformers.conversion_mapping
import transformers.models.bert.modeling_bert

import hftransfer.trainers.trainer  # noqa: F401

transformers.conversion_mapping.get_checkpoint_conversion_mapping("bert")
gc.freeze()  # the children's collections need not walk through all this
