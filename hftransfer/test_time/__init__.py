"""How does a model follow a stream after training? Adaptation at test time, without labels."""
