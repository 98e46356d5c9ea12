"""A trained model, looked at: under other solvers, with a block removed, along its depth."""
