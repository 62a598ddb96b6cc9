"""Choosing tile sizes, loop order and block splits of an array layer by the runtime's own cost model.

The space is small (some ten thousand mappings) and searched exhaustively, all candidates at once. The cost of a
mapping is the time of its slowest queue plus what cannot overlap, summed over the levels of the program.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmac.compiler.tile.ir import ArrayMapping, Dims, Window
from mmac.compiler.tile.rings import Rings
from mmac.isa.errors import ResourceError
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.program import PARAM_DTYPE
from mmac.runtime.targets import Target
from mmac.runtime.timing import formulas

Ints = npt.NDArray[np.int64]

ACCUMULATOR_BYTES = 4


@dataclass(frozen=True)
class LayerShape:
    """All that the mapping of a layer depends on (and what its choice is remembered by).

    `budgets` are the (α, β) at each level, `group_terms` the most terms that any weight group keeps.
    """

    x: Dims
    y: Dims
    window: Window
    groups: int
    budgets: tuple[tuple[int, int], ...]
    group_terms: int

    @property
    def ic(self) -> int:
        """Input channels per convolution group."""
        return self.x[3] // self.groups

    @property
    def oc(self) -> int:
        """Output channels per convolution group."""
        return self.y[3] // self.groups

    @property
    def pointwise(self) -> bool:
        """Whether the reduction axis is the channel axis alone, so that it can be cut."""
        return self.groups == 1 and self.window.kernel == (1, 1)


def search(shape: LayerShape, target: Target, name: str) -> ArrayMapping:
    """The mapping of least cost; the first one in a fixed order among equals.

    Raises:
        ResourceError: not even the smallest tile fits the scratchpads.
    """
    tiles = _tiles(shape, target, name)
    splits = _splits(target.array.blocks)
    cost = _cost(shape, target, tiles, splits)
    order, tile, split = (int(i) for i in np.unravel_index(int(np.argmin(cost)), cost.shape))
    batch, rows, columns, channels, reduction = (int(v) for v in tiles[tile])
    split_m, split_n, split_k = (int(v) for v in splits[split])
    cycles = int(cost[order, tile, split]) // len(shape.budgets)
    loops = "weights stay, pixels pass" if order == 0 else "pixels stay, weights pass"
    why = (
        f"{loops}; {split_m}x{split_n}x{split_k} blocks over pixels, channels, reduction; "
        f"best of {cost.size} mappings, {cycles} cycles expected on average"
    )
    return ArrayMapping(
        batch, rows, columns, channels, reduction, order == 0, split_m, split_n, split_k, cycles, why
    )  # fmt: skip


def _parts(size: int, unit: int = 1, most: int = 16) -> list[int]:
    """Tile sizes that cut `size` into 1, 2, 3 … about equal parts of whole units, down to one unit."""
    units = -(-size // unit)
    counts = sorted({*range(1, most + 1), *(2**i for i in range(units.bit_length())), units})
    return sorted({min(-(-units // n) * unit, size) for n in counts if n <= units}, reverse=True)


def _tiles(shape: LayerShape, target: Target, name: str) -> Ints:
    """[T, 5] (batch, rows, columns, channels, reduction) that fit the scratchpads, most generous first."""
    n, h, w, c = shape.y
    unit = shape.oc if shape.groups > 1 else min(target.array.columns, c)
    pixel_tiles = [(b, w_rows, w) for b in ([n, 1] if n > 1 else [1]) for w_rows in _parts(h)]
    pixel_tiles += [(1, 1, columns) for columns in _parts(w)[1:]]
    reductions = _parts(shape.ic, GROUP_SIZE, 8) if shape.pointwise and shape.ic > GROUP_SIZE else [shape.ic]
    candidates = np.array(
        [
            (*pixels, channels, reduction)
            for pixels, channels, reduction in itertools.product(pixel_tiles, _parts(c, unit), reductions)
        ],
        np.int64,
    )
    fitting = candidates[_fits(shape, target, candidates)]
    if not len(fitting):
        raise ResourceError(
            f"layer {name}",
            "not even its smallest tile fits the scratchpads",
            ", ".join(f"{k} {v} bytes" for k, v in target.scratchpads.items()),
            "use a target with larger scratchpads",
        )
    # what does not need its reduction cut is not worth cutting
    whole = fitting[fitting[:, 4] == shape.ic]
    return whole if len(whole) else fitting


def _boxes(shape: LayerShape, tiles: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Of each tile: input columns and pixels of its box, input channels, weight groups per output channel."""
    rows, columns = shape.window.rows(tiles[:, 1]), shape.window.columns(tiles[:, 2])
    channels = tiles[:, 4] if shape.groups == 1 else tiles[:, 3] // shape.oc * shape.ic
    taps = shape.window.kernel[0] * shape.window.kernel[1]
    return columns, tiles[:, 0] * rows * columns, channels, -(-(tiles[:, 4] * taps) // GROUP_SIZE)


def _fits(shape: LayerShape, target: Target, tiles: Ints) -> npt.NDArray[np.bool_]:
    slots = Rings(target.scratchpads)
    _, pixels, channels, groups = _boxes(shape, tiles)
    outputs = tiles[:, :4].prod(axis=1)
    group_bytes = max(1 + shape.group_terms, GROUP_SIZE)
    fits: npt.NDArray[np.bool_] = (
        (pixels * channels <= slots.slot_bytes("act"))
        & (outputs * ACCUMULATOR_BYTES <= slots.slot_bytes("acc"))
        & (groups * tiles[:, 3] * group_bytes <= slots.slot_bytes("wgt"))
        & (tiles[:, 3] * PARAM_DTYPE.itemsize <= slots.slot_bytes("prm"))
    )
    return fits


def _splits(blocks: int) -> Ints:
    """[S, 3] ways to share the blocks between pixels, channels and the reduction."""
    divisors = [d for d in range(1, blocks + 1) if blocks % d == 0]
    return np.array([(m, n, blocks // m // n) for m in divisors for n in divisors if blocks % (m * n) == 0], np.int64)


def _cost(shape: LayerShape, target: Target, tiles: Ints, splits: Ints) -> Ints:
    """[orders, T, S] cycles of weights-outer and pixels-outer order, summed over levels.

    Grouped layers know the first order only: their channel tiles share no activations that could stay.
    """
    n, h, w, c = shape.y
    counts = [-(-size // tiles[:, i]) for i, size in enumerate((n, h, w, c, shape.ic))]
    pixel_tiles, channel_tiles, cuts = counts[0] * counts[1] * counts[2], counts[3], counts[4]
    steps = pixel_tiles * channel_tiles * cuts
    load_x, store = _transfers(shape, target, tiles)
    loads_of = [(steps, channel_tiles), (pixel_tiles, pixel_tiles * channel_tiles)][: 1 if shape.groups > 1 else 2]
    total = np.zeros((len(loads_of), len(tiles), len(splits)), np.int64)
    budgets = Counter((min(alpha, shape.group_terms), beta) for alpha, beta in shape.budgets)
    for (alpha, beta), levels in sorted(budgets.items()):
        product = _product_cycles(shape, target, tiles, splits, alpha, beta)
        load_w = _weight_cycles(shape, target, tiles, alpha)
        compute = product * steps[:, None]
        once = product + (load_x + load_w + store)[:, None]
        for order, (x_loads, w_loads) in enumerate(loads_of):
            cut = cuts > 1
            loads = load_x * np.where(cut, steps, x_loads) + load_w * np.where(cut, steps, w_loads)
            slowest = np.maximum(np.maximum(loads, store * pixel_tiles * channel_tiles)[:, None], compute)
            total[order] += (slowest + once) * levels
    return total


def _transfers(shape: LayerShape, target: Target, tiles: Ints) -> tuple[Ints, Ints]:
    """Cycles to load one activation tile and to store one output tile."""
    columns, pixels, channels, _ = _boxes(shape, tiles)
    whole_rows = channels == shape.x[3]
    run = np.where(whole_rows, columns * channels, channels)
    runs = np.where(whole_rows, pixels // columns, pixels)
    load = formulas.dma_cycles(target, formulas.transfer_bytes(target, run, runs))
    out_pixels = tiles[:, 0] * tiles[:, 1] * tiles[:, 2]
    whole = tiles[:, 3] == shape.y[3]
    out_run = np.where(whole, tiles[:, 2] * tiles[:, 3], tiles[:, 3])
    out_runs = np.where(whole, out_pixels // tiles[:, 2], out_pixels)
    write = formulas.dma_cycles(target, formulas.transfer_bytes(target, out_run, out_runs), write=True)
    return np.asarray(load), np.maximum(write, formulas.requant_cycles(target, out_pixels * tiles[:, 3]))


def _weight_cycles(shape: LayerShape, target: Target, tiles: Ints, alpha: int) -> Ints:
    _, _, _, groups = _boxes(shape, tiles)
    size = groups * tiles[:, 3] * (1 + alpha)
    return np.asarray(formulas.dma_cycles(target, formulas.transfer_bytes(target, size), latencies=2))


def _product_cycles(shape: LayerShape, target: Target, tiles: Ints, splits: Ints, alpha: int, beta: int) -> Ints:
    """[T, S] cycles of one `mmac`."""
    _, _, _, groups = _boxes(shape, tiles)
    conv_groups = np.ones(len(tiles), np.int64) if shape.groups == 1 else tiles[:, 3] // shape.oc
    channels = tiles[:, 3] if shape.groups == 1 else np.full(len(tiles), shape.oc)
    split_m, split_n, split_k = splits.T
    work = formulas.ArrayWork(
        m=tiles[:, :3].prod(axis=1)[:, None], n=channels[:, None], g=groups[:, None],
        conv_groups=conv_groups[:, None], split_m=split_m, split_n=split_n, split_k=split_k,
    )  # fmt: skip
    cell = target.cell(target.array.cell)
    return np.asarray(
        formulas.mmac_cycles(target, work, formulas.group_cycles(cell, alpha, beta), formulas.group_words(cell, alpha))
    )
