"""Steps of explicit Runge-Kutta methods as compiled graphs, f included; imported only where one is asked for."""
