"""One training step: the joint forward, the task's loss, the objectives' inputs, the loss log."""
