"""Learn how bouncy a ball is from the time of its third bounce: events, and gradients through them.

Run it as a script, or open it as a notebook: each `# %%` starts a cell.
"""

# %% A ball falls: the state is (height, velocity), and each bounce is an event
import sys
from pathlib import Path

import torch
from matplotlib import pyplot

import noderun

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
GRAVITY = 9.81


def fall(t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.stack([y[1], torch.full_like(y[1], -GRAVITY)])


floor = noderun.Event(lambda t, y: y[0], terminal=True, direction=-1)


def bounces(restitution: torch.Tensor, count: int, height: float = 1.0) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The times of the first ``count`` bounces [count], and the heights between them."""
    t, y = torch.tensor(0.0, dtype=torch.float64), torch.tensor([height, 0.0], dtype=torch.float64)
    times, arcs = [], []
    for _ in range(count):
        sol = noderun.solve(fall, y, torch.stack([t, t + 10.0]), events=floor, dense=True, rtol=1e-8, atol=1e-8)
        t, y = sol.events[0].ts[0], sol.events[0].ys[0]
        arcs.append(sol)
        times.append(t)
        y = torch.stack([torch.zeros_like(y[0]), -restitution * y[1]])
    return torch.stack(times), arcs


# %% The closed form: the n-th bounce of a ball dropped from height h is at sqrt(2 h / g) (1 + 2 e + ... + 2 e^(n-1))
true = torch.tensor(0.8, dtype=torch.float64)
measured, arcs = bounces(true, 3)
exact = (2.0 / GRAVITY) ** 0.5 * (1 + 2 * true + 2 * true**2)
print(f"third bounce at {measured[2].item():.6f} s; closed form {exact.item():.6f} s")

# %% Newton's method finds the restitution from that one time: dt/de comes from backward()
guess = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
for i in range(5):
    time = bounces(guess, 3)[0][2]
    (slope,) = torch.autograd.grad(time, guess)
    with torch.no_grad():
        guess -= (time - measured[2]) / slope
    print(f"iteration {i}: restitution {guess.item():.8f}")
assert abs(guess.item() - true.item()) < 1e-6

# %% The path, read off the continuous extension of each arc
figure, axes = pyplot.subplots(figsize=(5.5, 3.0), layout="constrained")
begin = 0.0
for arc, end in zip(arcs, measured.tolist(), strict=True):
    times = torch.linspace(begin, end, 50, dtype=torch.float64)
    axes.plot(times, arc.interpolate(times)[:, 0], color="#0072B2")
    begin = end
axes.set(xlabel="t (s)", ylabel="height (m)")
figure.savefig(FOLDER / "bouncing_ball.png", dpi=150)
