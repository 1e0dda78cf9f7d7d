"""Feature-space alignment: domains brought together on frozen features, as scikit-learn estimators."""
