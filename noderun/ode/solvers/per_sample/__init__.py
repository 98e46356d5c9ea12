"""Many samples at once, each with its own time, step size and status, as if it were alone.

``walk`` is what ``stepper`` and ``integrate`` are for one solution; a module with the name of one in ``solvers`` holds
the same method or idea on tensors [b], one element a sample.
"""
