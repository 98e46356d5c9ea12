"""Solve a batch of Van der Pol oscillators with steps of their own, and see which solver suits which stiffness.

Run it as a script, or open it as a notebook: each `# %%` starts a cell.
"""

# %% One oscillator per stiffness mu: y'' = mu (1 - y^2) y' - y
import sys
from pathlib import Path

import torch
from matplotlib import pyplot

import noderun

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
mu = torch.tensor([[1.0], [5.0], [25.0]], dtype=torch.float64)  # [3, 1]
y0 = torch.tensor([[2.0, 0.0]], dtype=torch.float64).repeat(3, 1)  # [3, 2]


def oscillator(t: torch.Tensor, y: torch.Tensor, mu: torch.Tensor) -> torch.Tensor:
    x, v = y[:, :1], y[:, 1:]
    return torch.cat([v, mu * (1 - x**2) * v - x], dim=1)


# %% With per_sample=True each row takes the steps that it would take alone
for solver in ("dopri5", "kvaerno5", "radau5"):
    with torch.no_grad():
        sol = noderun.solve(
            oscillator, y0, [0.0, 30.0], solver=solver, args=(mu,), per_sample=True, rtol=1e-6, atol=1e-6
        )
    print(f"{solver}: accepted {sol.stats.accepted.tolist()}, rejected {sol.stats.rejected.tolist()}")

# %% The accepted steps of each sample
with torch.no_grad():
    sol = noderun.solve(oscillator, y0, [0.0, 30.0], args=(mu,), per_sample=True, steps=True, rtol=1e-6, atol=1e-6)

figure, (upper, lower) = pyplot.subplots(2, 1, figsize=(6.0, 4.5), sharex=True, layout="constrained")
for i, value in enumerate(mu[:, 0].tolist()):
    ts, ys = sol.ts[:, i], sol.ys[:, i, 0]  # NaN behind a sample's last step
    upper.plot(ts, ys, label=f"$\\mu$ = {value:g}")
    lower.semilogy(ts[1:], ts.diff())
upper.set(ylabel="y")
lower.set(xlabel="t", ylabel="step size")
figure.legend(*upper.get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=3)
figure.savefig(FOLDER / "steps_of_each_sample.png", dpi=150)
