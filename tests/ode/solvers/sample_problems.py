"""Vector fields and starts of many samples."""

import torch


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def van_der_pol(t, y, mu=25.0):
    x, v = y.unbind(-1)
    return torch.stack([v, mu * (1 - x**2) * v - x], dim=-1)


def decay(t, y, rate):
    return -rate * y + torch.sin(t)


def starts(count, seed=0):
    directions = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    radii = 2 * torch.rand(count, 1, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    return radii * directions / directions.norm(dim=1, keepdim=True)
