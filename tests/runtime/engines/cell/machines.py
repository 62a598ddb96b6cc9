"""Small arrays, random work for them, and what it comes to: sums by numpy, cycles as docs/hardware.md has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, log2

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from mmac.isa import streams, table
from mmac.isa.plan import LayerPlan, Level, Plan
from mmac.isa.program import Program, directory_dtype
from mmac.isa.structure import Op, Step, View
from mmac.isa.terms import truncate_values
from mmac.runtime.engines.cell.cells import KINDS
from mmac.runtime.engines.cell.layout import Layout, Work
from mmac.runtime.engines.cell.operands import Operands
from mmac.runtime.targets import Multipliers, Target, load_target
from mmac.runtime.timing.cost import ACTIONS, CYCLES, Action
from mmac.runtime.timing.machine import At, Machine
from tests.runtime.definition import Array

OWN_CYCLES = {"pmac": 16, "bmac": 128, "bmac_serial": 512}


def target(
    blocks: int = 1, rows: int = 1, columns: int = 1, *, encoders: int = 16, rankers: int = 16,
    pipeline_cycles: int = 5, multipliers: Multipliers | None = None,
) -> Target:  # fmt: skip
    vc707 = load_target("vc707")
    array = replace(
        vc707.array, blocks=blocks, rows=rows, columns=columns, encoders=encoders, rankers=rankers,
        pipeline_cycles=pipeline_cycles,
    )  # fmt: skip
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

    def formula(self, unit: table.Unit, mac: str, alpha: int) -> tuple[int, dict[Action, int]]:
        """Cycles and actions that `cost` says of an `mmac` with this work; α is the tile's largest group."""
        op, at = self._op(unit), self._at(mac, alpha)
        (cycles,) = np.broadcast_to(CYCLES[table.Mmac](op, at), 1).tolist()
        counts = ACTIONS[table.Mmac](op, at).items()
        return cycles, {action: int(np.broadcast_to(count, 1)[0]) for action, count in counts}

    def _op(self, unit: table.Unit) -> Op:
        """The box of y starts as many channels below 0 as `work` says that the view cuts off."""
        work = self.work
        first, last = work.channels
        conv_groups = -(-max(last, 1) // work.per_group)
        kind = table.TermFormat.RAW if work.raw else table.TermFormat.PLAIN
        split_m, split_n, split_k = work.splits
        instr = table.Mmac(
            x=0, y=1, act=0, wgt=1, acc=2, layer=0, format=kind, multipliers=int(unit),
            split_m=split_m, split_n=split_n, split_k=split_k,
        )  # fmt: skip
        conv = table.Conv(
            kernel_h=1, kernel_w=1, stride_h=1, stride_w=1, dilation_h=1, dilation_w=1,
            ic=work.depth, oc=work.per_group,
        )  # fmt: skip
        pixels = Step(0, 1), Step(0, 1), Step(0, work.pixels)
        x = View(0, 1, 0, (1, 1, work.pixels, conv_groups * work.depth), (0, 0, 1, 1),
                 (*pixels, Step(0, conv_groups * work.depth)))  # fmt: skip
        y = View(0, 1, 0, (1, 1, work.pixels, last - first), (0, 0, 1, 1),
                 (*pixels, Step(-first, conv_groups * work.per_group)))  # fmt: skip
        return Op(0, instr, {"x": x, "y": y}, {}, conv)

    def _at(self, mac: str, alpha: int) -> At:
        level = Level(max(1, alpha), self.beta)
        entry = np.zeros(1, directory_dtype(1))
        entry["level"]["alpha"] = alpha
        plan = Plan((level,), (LayerPlan("layer", (level,)),))
        program = Program("", "", plan, {}, (), entry.view(np.uint8), 0, (), (), ())
        directory = View(0, entry.itemsize, 0, (1, 1, 1, 1), (0, 0, 0, 0), (Step(0, 1),) * 4)
        return At(Machine(program, self.target, mac), (), (directory, ()))


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
    """To move a block's weights into a bank, and to rank those of a pass; `alpha` is the tile's largest group."""
    array, work = case.target.array, case.work
    move = array.rows * (alpha if mac == "mmac" else 16)
    if mac != "mmac" or not work.raw:
        return move
    _, split_n, split_k = work.splits
    _, n, g, packed = block_share(case)
    groups = packed * min(g, array.rows) * min(n, array.columns) * min(array.blocks, split_n * split_k)
    return max(move, ceil(16 * groups / array.rankers))


def block_share(case: Case) -> tuple[int, int, int, int]:
    """Convolution groups of a block, channels and weight groups of each, and how many of them are in a pass."""
    array, work = case.target.array, case.work
    _, split_n, split_k = work.splits
    over_groups = min(split_n, work.conv_groups)
    conv_groups = ceil(work.conv_groups / over_groups)
    n, g = ceil(work.width / (split_n // over_groups)), ceil(work.groups / split_k)
    return conv_groups, n, g, max(1, min(array.rows // g, array.columns // n, conv_groups))


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
    conv_groups, n, g, packed = block_share(case)
    at_once = max(1, array.blocks // split_k)
    rounds = ceil(split_m * split_n / at_once) * ceil(split_k / array.blocks)
    part = ceil(conv_groups / packed) * ceil(g / array.rows) * ceil(n / array.columns)
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
        raw=draw(st.booleans()),
    )


def shortened(work: Work, machine: Target, most_passes: int) -> Work:
    """As much of the work as so many passes can do, less of what takes most of them first."""
    while (layout := Layout(work, machine.array)).passes > most_passes:
        conv, group, channel = layout.steps
        if layout.rounds >= max(layout.steps):
            most = max(work.splits)
            m, n, k = (pieces - (pieces == most) for pieces in work.splits)
            work = replace(work, splits=(m, n, k))
        elif group >= max(conv, channel):
            work = replace(work, depth=-(-work.depth // 2))
        else:
            first, last = work.channels
            work = replace(work, channels=(first, first + (last - first) // 2))
    return work


@st.composite
def cases(draw: st.DrawFn, mac: str, most_cycles: int) -> Case:
    """Work for an array of up to 4 blocks of 8 × 8, so few pixels that it takes about that many cycles at most."""
    blocks, rows, columns = draw(st.tuples(st.integers(1, 4), st.integers(1, 8), st.integers(1, 8)))
    machine = target(
        blocks,
        rows,
        columns,
        encoders=draw(st.sampled_from([3, 16, 200])),
        rankers=draw(st.sampled_from([1, 16, 500])),
        pipeline_cycles=draw(st.integers(3, 9)),
    )
    alpha, beta = draw(st.integers(0, 9)), draw(st.integers(1, 3))
    beat = max(KINDS[mac].cycles_for(alpha, beta), columns)
    work = shortened(draw(works()), machine, max(1, most_cycles // beat))
    passes, split_m = Layout(work, machine.array).passes, work.splits[0]
    pixels = max(1, min(work.pixels, split_m * (most_cycles // (passes * beat))))
    return Case(machine, replace(work, pixels=pixels), alpha, beta, draw(st.integers(0, 2**32 - 1)))
