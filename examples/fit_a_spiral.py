"""Fit a neural ODE to a spiral and compare the cost of two gradient methods.

Run it as a script, or open it as a notebook: each `# %%` starts a cell.
"""

# %% The data: 100 points of a spiral, y' = A y^3 (the demonstration of Chen et al. 2018)
import sys
from pathlib import Path

import torch
from matplotlib import pyplot
from torch import nn

import noderun

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 300

torch.manual_seed(0)
A = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]])
y0, ts = torch.tensor([2.0, 0.0]), torch.linspace(0.0, 10.0, 100)
truth = noderun.solve(lambda t, y: y**3 @ A, y0, ts, solver="dop853", rtol=1e-6, atol=1e-6).ys  # [100, 2]


# %% The model: dy/dt = net(y^3)
class Cubic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2))

    def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.net(y**3)


# %% Train on windows of ten points; `checkpointed` is exact and is the library's default
field = Cubic()
optimizer = torch.optim.Adam(field.parameters(), lr=1e-2)
for step in range(STEPS):
    starts = torch.randint(0, 90, (32,))
    sol = noderun.solve(field, truth[starts], ts[:10], rtol=1e-4, atol=1e-4)
    target = torch.stack([truth[i : i + 10] for i in starts], dim=1)  # [10, 32, 2]
    loss = (sol.ys - target).abs().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step}: loss {loss.item():.4f}, NFE {sol.stats.nfe_forward} + {sol.stats.nfe_backward}")


# %% The same loss by each gradient method: what it costs, and how far its gradient is from that of a tight solve
def gradient(method: str, rtol: float) -> tuple[torch.Tensor, noderun.Solution]:
    field.zero_grad()
    sol = noderun.solve(field, truth[:90], ts[:10], rtol=rtol, atol=rtol, gradient=method)
    (sol.ys[-1] - truth[9:99]).square().mean().backward()
    return torch.cat([p.grad.flatten() for p in field.parameters()]), sol


reference, _ = gradient("backprop", 1e-6)
for method in ("backprop", "checkpointed", "adjoint"):
    found, sol = gradient(method, 1e-4)
    error = (found - reference).norm() / reference.norm()
    print(f"{method}: NFE {sol.stats.nfe_forward} + {sol.stats.nfe_backward}, gradient error {error:.1e}")

# %% The fitted spiral beside the true one
with torch.no_grad():
    fitted = noderun.solve(field, y0, torch.linspace(0.0, 10.0, 1000), rtol=1e-4, atol=1e-4).ys

figure, axes = pyplot.subplots(figsize=(4.5, 4.0), layout="constrained")
axes.plot(*truth.T, "o", markersize=3, label="data")
axes.plot(*fitted.T, label="neural ODE")
axes.set(xlabel="$y_1$", ylabel="$y_2$")
figure.legend(frameon=False, loc="outside upper center", ncols=2)
figure.savefig(FOLDER / "fit_a_spiral.png", dpi=150)
