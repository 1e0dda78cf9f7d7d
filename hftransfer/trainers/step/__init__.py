"""One training step: joint model, task loss, objective set, the chain of forwards, loss log."""
