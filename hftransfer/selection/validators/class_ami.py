"""Agreement of predicted classes with clusters of the features."""

from __future__ import annotations

import numpy as np

from .validator import Validator


class ClassAMI(Validator):
    """Adjusted mutual information of predicted classes and k-means clusters of the target's features.

    The clusters start at the mean features of the predicted classes, so there are as many as classes that are
    predicted. 1 where clusters and classes are the same, about 0 where they have nothing to do with each other, and 0
    where one class is predicted throughout.

    Paper: Musgrave, Belongie and Lim, Three New Validators and a Large-Scale Benchmark Ranking for Unsupervised Domain
    Adaptation, arXiv 2208.07360.
    """

    name = "class_ami"
    paper = "Musgrave, Belongie and Lim, Three New Validators, arXiv 2208.07360"

    def compute(self, target_probabilities: np.ndarray, target_features: np.ndarray) -> float:
        from sklearn.cluster import KMeans
        from sklearn.metrics import adjusted_mutual_info_score

        predicted = target_probabilities.argmax(1)
        classes = np.unique(predicted)
        if len(classes) < 2:
            return 0.0
        centres = np.stack([target_features[predicted == k].mean(0) for k in classes])
        clusters = KMeans(len(classes), init=centres, n_init=1).fit_predict(target_features)
        return adjusted_mutual_info_score(predicted, clusters)
