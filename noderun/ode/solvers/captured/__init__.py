"""Attempts of explicit Runge-Kutta methods that decide on the device, replayed there as CUDA graphs."""
