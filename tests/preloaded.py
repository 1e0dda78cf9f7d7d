"""What the server of forked test processes imports once, so that each of them starts at once."""

import gc

import conftest
import killing  # noqa: F401
import peft.peft_model  # noqa: F401
import sklearn.metrics  # noqa: F401
import transformers.models.bert.modeling_bert  # noqa: F401
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

import hftransfer.trainers.trainer  # noqa: F401

conftest.set_up()
get_checkpoint_conversion_mapping("bert")  # a slow table, built at first use
gc.freeze()  # the children's collections need not walk through all this
