"""Compiled steps pulled back: each is one graph that makes the step again and transposes it."""

from __future__ import annotations

from noderun.gradients.reversal import Move, Reversal, State
from noderun.solvers.compiled.runge_kutta import CompiledRungeKutta


class CompiledReversal(Reversal):
    """A step with outputs inside it goes back under autograd, over the graph that autograd records."""

    def pull(self, move: Move, state: State, before: Move | None) -> None:
        assert isinstance(self.method, CompiledRungeKutta)
        grads = None
        if not move.inside:
            a = self.end_cotangent(move)
            grads = self.method.pull(self.field, move.t, move.h, state.y.detach(), a, self.params)
        if grads is None or grads[0] is None:
            super().pull(move, state, before)
            return
        self.a = grads[0]
        self.add(grads[1:])
