"""Small arrays, random work for them, and what it comes to: sums by numpy, cycles as docs/hardware.md has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, log2

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from mmac.isa import streams
from mmac.isa.terms import truncate_values
from mmac.runtime.engines.cell.cells import KINDS
from mmac.runtime.engines.cell.layout import Layout, Work
from mmac.runtime.engines.cell.operands import Operands
from mmac.runtime.targets import Multipliers, Target, load_target
from mmac.runtime.timing.formulas import ArrayWork
from tests.runtime.definition import Array

OWN_CYCLES = {"pmac": 16, "bmac": 128, "bmac_serial": 512}


def target(
    blocks: int = 1, rows: int = 1, columns: int = 1, *, encoders: int = 16, pipeline_cycles: int = 5,
    multipliers: Multipliers | None = None,
) -> Target:  # fmt: skip
    vc707 = load_target("vc707")
    array = replace(
        vc707.array, blocks=blocks, rows=rows, columns=columns, encoders=encoders, pipeline_cycles=pipeline_cycles
    )
    return replace(vc707, array=array, multipliers=multipliers)


@dataclass(frozen=True)
class Case:
    """An `mmac` on a target."""

    target: Target
    work: Work
    alpha: int
    beta: int
    seed: int

    def operands(self) -> Operands:
        """Random operands, many of them extreme; no weight group has more than α terms."""
        rng, work = np.random.default_rng(self.seed), self.work
        conv_groups = work.first + work.conv_groups
        depth, channels = work.groups * 16, conv_groups * work.per_group
        data = _extreme(rng, 255, (conv_groups, work.pixels, depth))
        weights = _extreme(rng, 127, (channels, depth)) * (self.alpha > 0)
        data[..., work.depth :] = weights[:, work.depth :] = 0
        grouped = truncate_values(data, self.beta).reshape(conv_groups, work.pixels, work.groups, 16).swapaxes(1, 2)
        tiles = weights.reshape(channels, work.groups, 16).swapaxes(0, 1)
        return Operands(grouped, streams.rank(tiles, max(1, self.alpha)), self.beta)

    @property
    def formula_work(self) -> ArrayWork:
        work = self.work
        m, n, k = work.splits
        return ArrayWork(work.pixels, work.width, work.depth, work.conv_groups, split_m=m, split_n=n, split_k=k)


def _extreme(rng: np.random.Generator, most: int, shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
    """Values of which half are zero, near a limit or full of terms."""
    extreme = rng.choice([0, most, -most, most - 4, 85], shape)
    values: npt.NDArray[np.int16] = rng.choice([rng.integers(-most, most + 1, shape), extreme]).astype(np.int16)
    return values


def sums(work: Work, operands: Operands, acc: Array) -> Array:
    """acc int [channel, pixel] with all products added, channel by channel."""
    acc = acc.astype(np.int64)
    weights = operands.tile.values().astype(np.int64)
    for channel in range(*work.channels):
        data = operands.data[channel // work.per_group].astype(np.int64)
        acc[channel] += np.einsum("gpi,gi->p", data, weights[:, channel])
    return acc


def load_cycles(case: Case, mac: str, alpha: int) -> int:
    """To move a block's weights into a bank; `alpha` is the tile's largest group."""
    return case.target.array.rows * (alpha if mac == "mmac" else 16)


def encode_cycles(case: Case, mac: str) -> int:
    """To find the data terms of a block's rows for one beat."""
    array = case.target.array
    return ceil(16 * array.rows * case.beta / array.encoders) if mac == "mmac" else 0


def array_cycles(case: Case, mac: str, alpha: int) -> int:
    """docs/hardware.md, one number after the other."""
    array, work = case.target.array, case.work
    split_m, split_n, split_k = work.splits
    own = OWN_CYCLES.get(mac, alpha * case.beta)
    load, encode = load_cycles(case, mac, alpha), encode_cycles(case, mac)
    beat = max(own, array.columns, encode)
    over_groups = min(split_n, work.conv_groups)
    n = ceil(work.width / (split_n // over_groups))
    g = ceil(work.groups / split_k)
    packed = max(1, min(array.rows // g, array.columns // n))
    rounds = ceil(split_m * split_n * split_k / array.blocks)
    part = ceil(ceil(work.conv_groups / over_groups) / packed) * ceil(g / array.rows) * ceil(n / array.columns)
    stream = ceil(work.pixels / split_m) * beat
    passes = (rounds * part - 1) * max(stream, load) + stream
    hops = array.rows - 1 + array.columns - 1
    return array.pipeline_cycles + max(load, encode) + passes + hops + ceil(log2(split_k))


@st.composite
def works(draw: st.DrawFn, most_channels: int = 20) -> Work:
    """Any number of convolution groups, of which the view may cut off the first and the last channels."""
    per_group = draw(st.integers(1, 9))
    box = per_group * draw(st.integers(1, max(1, most_channels // per_group)))
    start, stop = sorted(draw(st.tuples(*[st.integers(0, box)] * 2).filter(lambda pair: pair[0] != pair[1])))
    return Work(
        pixels=draw(st.integers(1, 7)),
        channels=(start, stop),
        per_group=per_group,
        depth=draw(st.integers(1, 70)),
        splits=draw(st.tuples(*[st.integers(1, 3)] * 3)),
    )


@st.composite
def cases(draw: st.DrawFn, mac: str, most_cycles: int) -> Case:
    """Work for an array of up to 4 blocks of 8 × 8, so few pixels that it takes about that many cycles at most."""
    blocks, rows, columns = draw(st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 8)))
    machine = target(
        blocks, rows, columns, encoders=draw(st.sampled_from([3, 16, 200])), pipeline_cycles=draw(st.integers(3, 9))
    )
    work, alpha, beta = draw(works()), draw(st.integers(0, 9)), draw(st.integers(1, 3))
    passes = Layout(work, machine.array).passes
    beat = max(KINDS[mac].cycles_for(alpha, beta), columns)
    split_m = work.splits[0]
    pixels = max(1, min(work.pixels, split_m * (most_cycles // (passes * beat))))
    return Case(machine, replace(work, pixels=pixels), alpha, beta, draw(st.integers(0, 2**32 - 1)))
