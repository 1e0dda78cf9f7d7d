from .data.digits import load_digits_corpus as load_digits_corpus
from .data.masking import reveal_labels as reveal_labels
from .data.sample import load_sample_corpus as load_sample_corpus
from .models.adapter_sums import combine_adapters as combine_adapters
from .models.cut_vocabulary import cut_vocabulary as cut_vocabulary
from .models.domain_adapters import load_domains as load_domains
from .models.domain_adapters import save_domains as save_domains
from .models.domain_adapters import stack_adapter as stack_adapter
from .models.domain_adapters import switch_domain as switch_domain
from .models.interpolation import Mixture as Mixture
from .models.norm_statistics import adapt_batch_norm as adapt_batch_norm
from .models.pretrained import load_model as load_model
from .models.transplant import transplant as transplant
from .objectives.base import Objective as Objective
from .objectives.registry import register_objective as register_objective
from .trainers.config import AdaptationConfig as AdaptationConfig
from .trainers.hub.push import HubError as HubError
from .trainers.setup.plan import print_policy as print_policy
from .trainers.step.joint_model import JointModel as JointModel
from .trainers.trainer import AdaptationTrainer as AdaptationTrainer
from .trainers.variants import AdversarialTrainer as AdversarialTrainer
from .trainers.variants import ContrastiveTrainer as ContrastiveTrainer
from .trainers.variants import MMDTrainer as MMDTrainer

__version__: str
