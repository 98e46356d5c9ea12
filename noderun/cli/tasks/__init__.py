"""What each task does: a Hydra task has a function of its name and `finish`, any other task has `main`."""
