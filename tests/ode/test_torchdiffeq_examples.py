"""What torchdiffeq's example programs are about, on small settings: one changed import, the same numbers.

The tasks and the use of the interface follow its examples ode_demo, bouncing_ball, learn_physics, cnf, latent_ode and
odenet_mnist; the text is our own.
"""

import math

import pytest
import torch
import torchdiffeq as theirs
from torch import nn

import noderun as ours

ADJOINT = [False, True]
TOLERANCES = dict(rtol=1e-7, atol=1e-9)


def solver_of(package, adjoint):
    return package.odeint_adjoint if adjoint else package.odeint


def both(task, adjoint):
    """The numbers of a task by either package, seeded alike."""
    for package in (ours, theirs):
        torch.manual_seed(0)
        yield [torch.as_tensor(x).detach().double() for x in task(package, solver_of(package, adjoint))]


class Spiral(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, t, y):
        return self.net(y**3)


def ode_demo(package, odeint):
    """Batches cut out of one trajectory, a loss along all of their times, RMSprop, and a test without gradients."""
    matrix, t = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]]), torch.linspace(0.0, 2.0, 41)
    with torch.no_grad():
        truth = odeint(lambda t, y: y**3 @ matrix, torch.tensor([[2.0, 0.0]]), t, method="dopri5", **unless(odeint))
    f = Spiral()
    optimizer = torch.optim.RMSprop(f.parameters(), lr=1e-3)
    losses = []
    for start in (0, 7, 15):
        y0 = truth[start : start + 20 : 5]
        target = torch.stack([truth[start + i : start + 20 + i : 5] for i in range(6)])
        optimizer.zero_grad()
        loss = (odeint(f, y0, t[:6], **TOLERANCES) - target).abs().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss)
    with torch.no_grad():
        losses.append((odeint(f, truth[0], t, **TOLERANCES) - truth).abs().mean())
    return losses


def unless(odeint):
    """What the adjoint asks for where f is no Module."""
    return {"adjoint_params": ()} if odeint.__name__ == "odeint_adjoint" else {}


class Ball(nn.Module):
    """Falls under gravity and is thrown back by the ground and by the ceiling; the time rides along in the state."""

    def __init__(self, odeint):
        super().__init__()
        self.odeint = odeint
        self.gravity = nn.Parameter(torch.tensor([9.8]))
        self.absorption = nn.Parameter(torch.tensor([0.8]))
        self.height, self.t0 = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([0.0]))
        self.velocity = nn.Parameter(torch.zeros(1))

    def forward(self, t, state):
        position, velocity, _ = state
        return velocity, torch.zeros_like(velocity) - self.gravity, torch.zeros_like(position)

    def event_fn(self, t, state):
        position, _, radius = state
        return position - torch.exp(radius)

    def bounces(self, package, count):
        state, t0 = (self.height, self.velocity, torch.full_like(self.height, math.log(0.05))), self.t0
        for _ in range(count):
            options = dict(reverse_time=False, atol=1e-8, rtol=1e-8, odeint_interface=self.odeint)
            t0, states = package.odeint_event(self, state, t0, event_fn=self.event_fn, **options)
            position, velocity, radius = (x[-1] for x in states)
            yield t0, position
            state = (position + 1e-7, -velocity * (1 - self.absorption), radius)


def bouncing_ball(package, odeint):
    ball = Ball(odeint).double()
    times, positions = zip(*ball.bounces(package, 3), strict=True)
    gradients = torch.autograd.grad(times[-1].sum(), (ball.gravity, ball.absorption, ball.height, ball.velocity))
    return [*times, *positions, *gradients]


def learn_physics(package, odeint):
    """The path between the bounces, and gravity and absorption learned from where the ball is."""
    ball = Ball(odeint).double()
    optimizer, found = torch.optim.Adam(ball.parameters(), lr=0.05), []
    for _ in range(2):
        optimizer.zero_grad()
        state, t0, path = (ball.height, ball.velocity, torch.full_like(ball.height, math.log(0.05))), ball.t0, []
        for event_t, _ in ball.bounces(package, 1):
            times = torch.linspace(t0.item(), event_t.item(), 5, dtype=torch.float64)[1:-1]
            path.append(odeint(ball, state, torch.cat([t0.reshape(-1), times]), atol=1e-8, rtol=1e-8)[0])
        loss = (torch.cat(path) - 0.4).square().mean() + (event_t - 0.3).square().sum()
        loss.backward()
        optimizer.step()
        found += [loss, ball.gravity.clone(), ball.height.clone()]
    return found


class Flow(nn.Module):
    """A continuous normalizing flow in the plane: f takes derivatives of its own output inside."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, t, states):
        z = states[0]
        with torch.set_grad_enabled(True):
            z.requires_grad_(True)
            dz = self.net(torch.cat([z, t.expand(len(z), 1)], 1))
            trace = sum(torch.autograd.grad(dz[:, i].sum(), z, create_graph=True)[0][:, i] for i in range(2))
        return dz, -trace.view(-1, 1)


def cnf(package, odeint):
    f = Flow()
    optimizer, losses = torch.optim.Adam(f.parameters(), lr=1e-2), []
    for _ in range(2):
        optimizer.zero_grad()
        start = torch.randn(32, 2), torch.zeros(32, 1)
        z, change = odeint(f, start, torch.tensor([1.0, 0.0]), atol=1e-6, rtol=1e-6, method="dopri5")
        loss = (z[-1].square().sum(1) / 2 + change[-1].view(-1)).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss)
    with torch.no_grad():
        path, _ = odeint(f, start, torch.linspace(0.0, 1.0, 4), atol=1e-6, rtol=1e-6)
    return [*losses, path]


def latent_ode(package, odeint):
    """A trajectory encoded backwards by an RNN, a latent path, a decoder, and the path before the data."""
    f, encoder, decoder = Spiral(), nn.GRU(2, 4), nn.Linear(2, 2)
    data = torch.randn(8, 3, 2)
    t = torch.linspace(0.0, 1.0, 8)
    mean, spread = encoder(data.flip(0))[1][0].chunk(2, dim=1)
    z0 = mean + torch.randn_like(mean) * torch.exp(0.5 * spread)
    path = odeint(f, z0, t, **TOLERANCES).permute(1, 0, 2)
    loss = (decoder(path) - data.permute(1, 0, 2)).square().mean()
    with torch.no_grad():
        before = odeint(f, z0, torch.linspace(0.0, -0.5, 3), **TOLERANCES)
    parameters = [*f.parameters(), *encoder.parameters(), *decoder.parameters()]
    return [loss, before, *torch.autograd.grad(loss, parameters)]


class ConcatConv(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.conv, self.nfe = nn.GroupNorm(2, 4), nn.Conv2d(5, 4, 3, padding=1), 0

    def forward(self, t, x):
        self.nfe += 1
        x = torch.relu(self.norm(x))
        return self.conv(torch.cat([torch.ones_like(x[:, :1]) * t, x], 1))


def odenet_mnist(package, odeint):
    """A block between a convolution and a linear layer that counts its calls of f."""
    f, stem, head = ConcatConv(), nn.Conv2d(1, 4, 3, 2, 1), nn.Linear(4, 10)
    images, labels = torch.randn(4, 1, 8, 8), torch.tensor([1, 3, 5, 7])
    times = torch.tensor([0, 1]).float()
    optimizer, losses = torch.optim.SGD([*f.parameters(), *stem.parameters(), *head.parameters()], lr=0.1), []
    for _ in range(2):
        x = stem(images)
        x = odeint(f, x, times.type_as(x), rtol=1e-3, atol=1e-3)[1]
        loss = nn.functional.cross_entropy(head(x.mean((2, 3))), labels)
        forward, f.nfe = f.nfe, 0
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert forward > 0 and (f.nfe > 0) == (odeint.__name__ == "odeint_adjoint")
        losses.append(loss)
    return losses


# Task -> how near: single precision, and what the tolerance of an adjoint leaves.
TASKS = {ode_demo: 1e-4, bouncing_ball: 1e-6, learn_physics: 1e-5, cnf: 1e-4, latent_ode: 1e-3, odenet_mnist: 2e-2}


@pytest.mark.parametrize("adjoint", ADJOINT)
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_an_example_runs_with_one_changed_import(task, adjoint):
    for mine, other in zip(*both(task, adjoint), strict=True):
        torch.testing.assert_close(mine, other.reshape(mine.shape), rtol=TASKS[task], atol=TASKS[task])
