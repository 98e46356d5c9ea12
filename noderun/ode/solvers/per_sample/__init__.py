"""Many samples at once, each with its own time, step size and status, as if it were alone.

A module with the name of one in ``solvers`` holds the same method or idea on tensors [b], one element per sample;
``stepper`` is the counterpart of both ``stepper`` and ``integrate``.
"""
