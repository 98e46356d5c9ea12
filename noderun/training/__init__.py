"""How a model is trained: objectives, optimisation, the loop, checkpoints and measurements."""
