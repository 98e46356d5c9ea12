"""Training: the loop and its callbacks, optimization, checkpoints and measurements."""
