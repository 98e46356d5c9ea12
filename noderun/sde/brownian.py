"""A Brownian path that is a function of a seed: any increment, asked for in any order, is computed and not remembered.

The interval is cut into cells. The increment dW over a cell is a normal number of its own. Within a cell of width h the
path is Levy's and Ciesielski's series, a sum of tents whose heights are normal numbers: at the place x in [0, 1]

    W(x) = x dW + sqrt(h) sum_(l < levels) 2^(-l/2) tent(2^l x) Z_(l, floor(2^l x)),    tent(u) = min(u mod 1, -u mod 1)

Ciesielski 1961. The virtual Brownian tree of Li et al. 2020 is the same path, descended midpoint by midpoint.
All the numbers are ``noise.NormalPairs``: hashes of the seed, the sample, the component and their place in the path.
"""

from __future__ import annotations

import bisect
import functools
import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from noderun import noise

NEAR = 1e-9  # of a cell: a time this close to a cell's end is its end
REMEMBERED = 4  # places inside cells, and W there
HELD = 2**19  # numbers in the cells that were computed ahead, 2 MB in float32, unless two blocks are more
BLOCK = 2**17  # numbers in one block of cells
MOST = 128  # cells in a block


class BrownianPath:
    """W(t) - W(s) [B, *shape] of B independent Brownian motions per component, for any s and t of an interval.

    >>> path = BrownianPath([0.0, 0.5, 1.0], (2,), seed=0)
    >>> torch.equal(path(0.0, 0.5), path(0.0, 0.5)), torch.equal(path(0.3, 0.1), -path(0.1, 0.3))
    (True, True)

    - ``times``: the ends of the cells, rising: the interval and where increments are cheap, one normal number for one
      cell. Other times cost up to ``levels`` numbers each.
    - ``shape``: [B, ...] of an increment, samples first.
    - ``seed``, ``index``: the path of a sample is a function of (seed, its index, times, levels); index is int64 [B],
      by default 0 to B - 1.
    - ``levels``: below 2^-levels of a cell the path is straight.

    Memory does not grow with the number of queries. ValueError for times outside of the interval.
    """

    def __init__(
        self,
        times: Sequence[float] | Tensor,
        shape: Sequence[int],
        *,
        seed: int = 0,
        index: Tensor | None = None,
        levels: int = 20,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.times: list[float] = torch.as_tensor(times, dtype=torch.float64).tolist()
        if len(self.times) < 2 or self.times != sorted(set(self.times)):
            raise ValueError("times of a Brownian path are the ends of its cells, at least two, strictly rising")
        if not 1 <= levels <= 30:
            raise ValueError(f"levels is {levels}; it is a number from 1 to 30")
        self.shape, self.levels, self.dtype = torch.Size(shape), levels, dtype
        index = torch.arange(self.shape[0]) if index is None else index
        self.streams = noise.bits(seed, index.to(device), tuple(self.shape[1:]) or (1,)).flatten()
        self.normal_pairs = noise.NormalPairs(self.streams, dtype)
        self.count = max(2, min(MOST, BLOCK // max(len(self.streams), 1)) // 2 * 2)  # cells in a block
        self.blocks: OrderedDict[int, tuple[Tensor, tuple[Tensor, ...]]] = OrderedDict()  # those used last
        self.last = -self.count  # the cell asked for last
        self.inside: OrderedDict[tuple[int, float], Tensor] = OrderedDict()  # W(x) - W(0) in a cell

    def __call__(self, s: float, t: float) -> Tensor:
        """W(t) - W(s), which may be a view of what the path holds: copy it before you write to it."""
        if s > t:
            return -self(t, s)
        first = bisect.bisect_left(self.times, s)
        if self.times[first : first + 2] == [s, t]:
            return self.cell(first)
        (first, x), (last, y) = self.place(s), self.place(t)
        if x == y == 0 and last == first + 1:
            return self.cell(first)
        total = self.sum_of_cells(first, last)
        if x:
            total = total - self.within(first, x)
        return (total + self.within(last, y) if y else total).view(self.shape)

    def place(self, t: float) -> tuple[int, float]:
        """The cell in which t lies, and where in it, from 0 to below 1; the end of the last cell is the next one's."""
        times = self.times
        cell = min(max(bisect.bisect_right(times, t) - 1, 0), len(times) - 2)
        x = (t - times[cell]) / (times[cell + 1] - times[cell])
        if NEAR < x < 1 - NEAR:
            return cell, x
        if not -NEAR <= x <= 1 + NEAR:
            raise ValueError(f"t = {t:g} is outside of [{times[0]:g}, {times[-1]:g}], where the path is known")
        return (cell + 1, 0.0) if x > 0.5 else (cell, 0.0)

    def within(self, cell: int, x: float) -> Tensor:
        """W(x) - W(0) [N] in a cell; the last few are remembered, since a step begins where another ends."""
        if (cell, x) not in self.inside:
            while len(self.inside) >= REMEMBERED:
                self.inside.popitem(last=False)
            self.inside[cell, x] = torch.add(self.tents(cell, x), self.cell(cell).flatten(), alpha=x)
        return self.inside[cell, x]

    def tents(self, cell: int, x: float) -> Tensor:
        """The sum [N] over the levels; node 2^l + k of a cell is the tent over [k, k + 1] / 2^l."""
        width, counters, variances = self.times[cell + 1] - self.times[cell], [], []
        for level in range(self.levels):
            k, u = divmod(x * 2**level, 1.0)
            if u == 0:
                break
            counters.append((cell << 32) + 2**level + int(k))
            variances.append(width * 2.0**-level * min(u, 1 - u) ** 2)
        terms = self.normal_pairs(counters, variances, members=(0,)).squeeze(1).unbind()
        return functools.reduce(torch.add, terms)  # torch.sum's order of summation depends on the batch size

    def cell(self, cell: int) -> Tensor:
        """The increment over a cell; if neighbors are asked for, those around it are computed with it."""
        number, place = divmod(cell, self.count)
        near, self.last = abs(cell - self.last) < self.count, cell
        if near or number in self.blocks:
            return self.block(number)[1][place]
        return self.increments([cell // 2], (cell % 2,)).view(self.shape)

    def block(self, number: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The increments [count, N] of a block of cells, and each by itself; held as one of the last that were used."""
        if number in self.blocks:
            self.blocks.move_to_end(number)
        else:
            most = max(2, HELD // max(1, self.count * len(self.streams)))
            while len(self.blocks) >= most:
                self.blocks.popitem(last=False)
            pairs = range(number * self.count // 2, (number + 1) * self.count // 2)
            rows = self.increments([p for p in pairs if 2 * p < len(self.times) - 1])
            self.blocks[number] = rows, rows.view(-1, *self.shape).unbind()
        return self.blocks[number]

    def increments(self, pairs: Sequence[int], members: tuple[int, ...] = (0, 1)) -> Tensor:
        """Those of the cells 2 p + member, [cells, N]: a word gives both of a pair."""
        ends = [*self.times, self.times[-1]]  # behind the last cell there may be one of width 0
        roots = [math.sqrt(ends[2 * p + i + 1] - ends[2 * p + i]) for p in pairs for i in members]
        found = self.normal_pairs([p << 32 for p in pairs], [1.0] * len(pairs), members).flatten(0, 1)
        return found.mul_(torch.tensor(roots, dtype=found.dtype, device=found.device).unsqueeze(1))

    def sum_of_cells(self, first: int, last: int) -> Tensor:
        """The increment [N] over the cells from ``first`` to before ``last``, added one by one in any batch alike."""
        total = torch.zeros(len(self.streams), dtype=self.dtype, device=self.streams.device)
        for number in range(first // self.count, -(-last // self.count)):
            start = number * self.count
            for row in self.block(number)[0][max(first - start, 0) : last - start].unbind():
                total += row
        return total
