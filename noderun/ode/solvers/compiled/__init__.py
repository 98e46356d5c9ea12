"""Steps of explicit Runge-Kutta methods as compiled graphs, f included; imported only if one is asked for."""
