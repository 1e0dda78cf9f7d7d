from .data.masking import reveal_labels as reveal_labels
from .data.sample import load_sample_corpus as load_sample_corpus
from .models.loading import load_model as load_model
from .objectives.base import Objective as Objective
from .trainers.adapter import DomainAdapter as DomainAdapter
from .trainers.config import AdaptationConfig as AdaptationConfig
from .trainers.publishing import HubError as HubError
from .trainers.trainer import AdaptationTrainer as AdaptationTrainer
from .trainers.variants import AdversarialTrainer as AdversarialTrainer
from .trainers.variants import ContrastiveTrainer as ContrastiveTrainer
from .trainers.variants import MMDTrainer as MMDTrainer

__version__: str
