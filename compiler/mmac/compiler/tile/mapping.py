"""Choosing units, format, tile sizes, loop order and splits of an array layer by the runtime's own cost model.

The space is small (some ten thousand mappings) and searched exhaustively, all candidates at once. The cost of a
mapping at a level is the time of its slowest queue plus what cannot overlap, on the unit that is faster there. One
mapping serves all levels: the one that is least slower than the best for each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mmac.compiler.tile.cuts import cut
from mmac.compiler.tile.formats import group_bytes
from mmac.compiler.tile.ir import ArrayMapping, Dims, Window
from mmac.compiler.tile.rings import SLOTS, Rings
from mmac.isa.errors import ResourceError
from mmac.isa.plan import GROUP_SIZE
from mmac.isa.program import PARAM_DTYPE
from mmac.isa.spec import Queue
from mmac.isa.table import TermFormat
from mmac.runtime.targets import Array, Target
from mmac.runtime.timing import formulas

Ints = npt.NDArray[np.int64]

ACCUMULATOR_BYTES = 4


@dataclass(frozen=True)
class LayerShape:
    """All that the mapping of a layer depends on (and what its choice is remembered by).

    `budgets` are the (α, β) at each level, `usual` the levels that count (`Plan.usual_levels`), `group_terms` the most
    terms of any weight group; `profile` is, at each level, the most terms that any group of each output channel keeps,
    if they differ. `format` is the one in which the weights take fewest bytes, `x_on_chip`, `y_on_chip` and
    `weights_on_chip` what lies in the global buffer.
    """

    x: Dims
    y: Dims
    window: Window
    groups: int
    budgets: tuple[tuple[int, int], ...]
    usual: tuple[int, ...]
    group_terms: int
    format: TermFormat = TermFormat.PLAIN
    profile: tuple[tuple[int, ...], ...] | None = None
    x_on_chip: bool = False
    y_on_chip: bool = False
    weights_on_chip: bool = False

    @property
    def ic(self) -> int:
        """Input channels per convolution group."""
        return self.x[3] // self.groups

    @property
    def oc(self) -> int:
        """Output channels per convolution group."""
        return self.y[3] // self.groups

    def terms(self, level: int) -> Ints:
        """[c] the most terms that any group of each output channel keeps."""
        if self.profile is not None:
            return np.array(self.profile[level], np.int64)
        return np.full(self.y[3], min(self.budgets[level][0], self.group_terms))

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
    splits = _splits(shape, target.array)
    compared = _compared(shape)
    # integers have to be ranked on their way to the array
    formats = (TermFormat.RAW, TermFormat.CODED) if shape.format == TermFormat.RAW else (shape.format,)
    shapes = [replace(shape, format=each) for each in formats]
    cost = np.stack([np.minimum(*_cost(each, target, tiles, splits, compared)) for each in shapes])
    # about equally good at every level: by how much each is slower than it could be, large shares counting more
    weight = np.reshape(list(compared.values()), (-1, 1, 1, 1))
    slower = cost / cost.min(axis=(0, 2, 3, 4), keepdims=True) - 1
    regret = (weight * (slower + _UNEVEN * slower**2)).sum(axis=1)
    kind, order, tile, split = (int(i) for i in np.unravel_index(int(np.argmin(regret)), regret.shape))
    low, high = (int(cost[kind, level, order, tile, split]) for level in (0, -1))
    shape = shapes[kind]
    array, multiplied = _cost(shape, target, tiles[[tile]], splits[[split]], range(len(shape.budgets)))
    multipliers = np.flatnonzero((multiplied < array)[:, order, 0, 0]).tolist()
    loops = "weights stay, pixels pass" if order == 0 else "pixels stay, weights pass"
    where = _where(splits[split].tolist(), multipliers, len(shape.budgets))
    why = f"{loops}; {where}; best of {regret.size} mappings, {low} to {high} cycles expected"
    batch, rows, columns, channels, reduction = tiles[tile].tolist()
    split_m, split_n, split_k = splits[split].tolist()
    return ArrayMapping(
        batch, rows, columns, channels, reduction, order == 0, split_m, split_n, split_k, tuple(multipliers),
        shape.format, high, why,
    )  # fmt: skip


def _where(blocks: list[int], multipliers: list[int], levels: int) -> str:
    """For people: what forms the sums."""
    array = "x".join(map(str, blocks)) + " blocks over pixels, channels, reduction"
    if not multipliers:
        return array
    if len(multipliers) == levels:
        return "on the multipliers"
    return f"on the multipliers at levels {', '.join(map(str, multipliers))}, else {array}"


def _parts(size: int, unit: int = 1, most: int = 16) -> list[int]:
    """Tile sizes that cut `size` into 1, 2, 3 … about equal parts of whole units, down to one unit."""
    units = -(-size // unit)
    counts = sorted({*range(1, most + 1), *(2**i for i in range(units.bit_length())), units})
    return sorted({min(-(-units // n) * unit, size) for n in counts if n <= units}, reverse=True)


def _tiles(shape: LayerShape, target: Target, name: str) -> Ints:
    """[T, 5] (batch, rows, columns, channels, reduction) that fit the scratchpads, most generous first."""
    if shape.groups > 1:
        fitting = _fitting(shape, target, shape.oc)
    else:
        # fewer channels than a block has columns only where nothing else fits
        units = [min(target.array.columns, shape.oc)]
        units += [unit for unit in (2**i for i in range(units[0].bit_length(), -1, -1)) if unit < units[0]]
        fitting = next(
            (found for unit in units if len(found := _fitting(shape, target, unit))), np.empty((0, 5), np.int64)
        )
    if not len(fitting):
        raise ResourceError(
            f"layer {name}",
            "not even its smallest tile fits the scratchpads",
            ", ".join(f"{k} {v} bytes" for k, v in target.scratchpads.items()),
            "use a target with larger scratchpads",
        )
    # what does not need its reduction cut is not worth cutting, but for the stores of the multipliers
    whole = fitting[:, 4] == shape.ic
    stored = _stored(shape, target, fitting)
    useful = whole if (stored & whole).any() else whole | stored
    return fitting[useful] if whole.any() else fitting


def _stored(shape: LayerShape, target: Target, tiles: Ints) -> npt.NDArray[np.bool_]:
    """Which tiles the multipliers have room for, the last ones of the channels included."""
    if target.multipliers is None:
        return np.zeros(len(tiles), np.bool_)
    last = tiles.copy()
    last[:, 3] = (shape.y[3] - 1) % tiles[:, 3] + 1
    words = [formulas.unit_words(target.multipliers, _work(shape, each)) for each in (tiles, last)]
    return np.maximum(*words) <= target.multipliers.words


def _fitting(shape: LayerShape, target: Target, unit: int) -> Ints:
    """Tiles that fit, with channels in multiples of `unit`."""
    n, h, w, c = shape.y
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
    return candidates[_fits(shape, target, candidates)]


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


def _splits(shape: LayerShape, array: Array) -> Ints:
    """[S, 3] ways to share the blocks between pixels, channels and the reduction; the pixels get what is left.

    Channels and groups are cut into parts of whole blocks that are as equal as possible.
    """
    taps = shape.window.kernel[0] * shape.window.kernel[1]
    channels = int(formulas.ceil_div(shape.oc, array.columns)) if shape.groups == 1 else shape.groups
    groups = int(formulas.ceil_div(formulas.ceil_div(shape.ic * taps, GROUP_SIZE), array.rows))
    pairs = [
        (n, k)
        for n in _counts(channels, array.blocks)
        for k in _counts(groups, min(array.blocks, _MOST_CUTS))
        if n * k <= array.blocks
    ]
    return np.array([(array.blocks // (n * k), n, k) for n, k in pairs], np.int64)


_MOST_CUTS = 16
"""Blocks that share one reduction at most: their sums have to be added up."""


def _counts(units: int, most: int) -> list[int]:
    """Numbers of parts, at most `most`, each the smallest for its size of part: 1 … units."""
    return sorted({-(-units // size) for size in range(1, units + 1) if -(-units // size) <= most})


_UNEVEN = 20.0
"""Weight of the square of what a level loses, as a share, beside the share itself."""
_LEVELS = 4
"""Levels at which mappings are compared: costs are nearly linear in between."""


def _cost(shape: LayerShape, target: Target, tiles: Ints, splits: Ints, levels: Iterable[int]) -> tuple[Ints, Ints]:
    """Cycles on the array and on the multipliers, [levels, orders, T, S] and [levels, orders, T, 1].

    Orders are weights-outer and pixels-outer.

    Queues overlap: the slowest one decides, after whatever comes before its first and after its last part. The weights
    queue runs ahead, unless it has to wait for slots: then the next layer waits for its weights. Grouped layers know
    the first order only: their channel tiles share no activations that could stay.
    """
    n, h, w, c = shape.y
    counts = [-(-size // tiles[:, i]) for i, size in enumerate((n, h, w, c, shape.ic))]
    pixel_tiles, channel_tiles, cuts = counts[0] * counts[1] * counts[2], counts[3], counts[4]
    steps = pixel_tiles * channel_tiles * cuts
    load_x, store = _transfers(shape, target, tiles)
    loads_of = [(steps, channel_tiles), (pixel_tiles, pixel_tiles * channel_tiles)][: 1 if shape.groups > 1 else 2]
    port = target.port(Queue.WEIGHTS, shape.weights_on_chip)
    next_w = formulas.dma_cycles(port, formulas.transfer_bytes(port, _NEXT_BYTES))
    costs = []
    for level in levels:
        alpha = int(shape.terms(level).max())
        product, busy = _products(shape, target, tiles, splits, level)
        load_w = _weight_cycles(shape, target, tiles, alpha)
        orders = []
        for x_loads, w_loads in loads_of:
            loads = load_x * np.where(cuts > 1, steps, x_loads)
            w_count = np.where(cuts > 1, steps, w_loads)
            weights = load_w * w_count
            behind = np.where(w_count > SLOTS, next_w, 0)
            computed = (load_x + store + behind)[:, None] + busy * cuts[:, None]
            moved = np.maximum(np.maximum(loads, weights) + store, load_x + store * (pixel_tiles * channel_tiles))
            orders.append(np.maximum(computed, (moved + behind)[:, None] + product))
        costs.append(np.stack(orders))
    found = np.stack(costs)
    return found[..., :-1], found[..., -1:]


def _compared(shape: LayerShape) -> dict[int, int]:
    """Levels at which mappings are compared, and how many of the usual levels each stands for.

    Both ends are among them: costs are nearly linear in between.
    """
    alike: dict[object, list[int]] = {}
    for level in shape.usual:
        alike.setdefault((shape.budgets[level], shape.profile and shape.profile[level]), []).append(level)
    kinds = list(alike.values())
    chosen = sorted({(len(kinds) - 1) * i // (_LEVELS - 1) for i in range(_LEVELS)})
    counts = dict.fromkeys((kinds[number][0] for number in chosen), 0)
    for number, levels in enumerate(kinds):
        nearest = chosen[int(np.abs(np.subtract(chosen, number)).argmin())]
        counts[kinds[nearest][0]] += len(levels)
    return counts


def _products(shape: LayerShape, target: Target, tiles: Ints, splits: Ints, level: int) -> tuple[Ints, Ints]:
    """[T, S + 1] cycles of the longest `mmac`, and of all together (of one cut of the reduction)."""
    parts = cut(shape.y, tiles, shape.terms(level))
    cycles = _product_cycles(shape, target, parts.sizes, splits, parts.terms, shape.budgets[level][1])
    starts = np.flatnonzero(np.diff(parts.way, prepend=-1))
    return np.maximum.reduceat(cycles, starts), np.add.reduceat(cycles * parts.number[:, None], starts)


_NEXT_BYTES = 1 << 15
"""A guess at how many bytes of weights the next layer waits for."""


def _transfers(shape: LayerShape, target: Target, tiles: Ints) -> tuple[Ints, Ints]:
    """Cycles to load one activation tile and to store one output tile."""
    columns, pixels, channels, _ = _boxes(shape, tiles)
    whole_rows = channels == shape.x[3]
    run = np.where(whole_rows, columns * channels, channels)
    runs = np.where(whole_rows, pixels // columns, pixels)
    port = target.port(Queue.LOAD, shape.x_on_chip)
    load = formulas.dma_cycles(port, formulas.transfer_bytes(port, run, runs))
    out_pixels = tiles[:, 0] * tiles[:, 1] * tiles[:, 2]
    whole = tiles[:, 3] == shape.y[3]
    out_run = np.where(whole, tiles[:, 2] * tiles[:, 3], tiles[:, 3])
    out_runs = np.where(whole, out_pixels // tiles[:, 2], out_pixels)
    port = target.port(Queue.STORE, shape.y_on_chip)
    write = formulas.dma_cycles(port, formulas.transfer_bytes(port, out_run, out_runs))
    return np.asarray(load), np.maximum(write, formulas.requant_cycles(target, out_pixels * tiles[:, 3]))


def _weight_cycles(shape: LayerShape, target: Target, tiles: Ints, alpha: int) -> Ints:
    _, _, _, groups = _boxes(shape, tiles)
    count = groups * tiles[:, 3]
    size = np.ceil(count * group_bytes(shape.format, alpha)).astype(np.int64)
    port = target.port(Queue.WEIGHTS, shape.weights_on_chip)
    transfer = formulas.dma_cycles(port, formulas.transfer_bytes(port, size), latencies=2)
    coded = shape.format == TermFormat.CODED
    return np.maximum(transfer, formulas.decode_cycles(target, port, count * alpha if coded else 0))


def _product_cycles(shape: LayerShape, target: Target, tiles: Ints, splits: Ints, terms: Ints, beta: int) -> Ints:
    """[T, S + 1] cycles of one `mmac` with so many terms, [T]: on the array, and last on the multipliers."""
    array, cell = target.array, target.cell(target.array.cell)
    split, alpha = _work(shape, tiles[:, None], splits), terms[:, None]
    beat, words = formulas.beat_cycles(array, cell, alpha, beta), formulas.group_words(cell, alpha)
    rank = formulas.rank_cycles(array, cell, split) if shape.format == TermFormat.RAW else 0
    product = formulas.mmac_cycles(target, split, beat, words, formulas.encode_cycles(array, cell, beta), rank)
    multiplied = np.full(len(tiles), _NEVER)
    if target.multipliers is not None:
        stored = _stored(shape, target, tiles)
        cycles = formulas.multiply_cycles(target, target.multipliers, _work(shape, tiles))
        multiplied = np.where(stored, cycles, _NEVER)
    return np.concatenate([product, multiplied[:, None]], axis=1)


_NEVER = 1 << 40
"""Cycles of what cannot be done; products of it still fit 64 bits."""


_WHOLE = np.ones(3, np.int64)
"""A split into one part."""


def _work(shape: LayerShape, tiles: Ints, splits: Ints = _WHOLE) -> formulas.ArrayWork:
    """What one `mmac` multiplies; tiles [..., 5] and splits [..., 3] broadcast."""
    grouped = shape.groups > 1
    return formulas.ArrayWork(
        m=tiles[..., :3].prod(axis=-1),
        n=np.full_like(tiles[..., 3], shape.oc) if grouped else tiles[..., 3],
        depth=tiles[..., 4] * shape.window.kernel[0] * shape.window.kernel[1],
        conv_groups=tiles[..., 3] // shape.oc if grouped else np.ones_like(tiles[..., 3]),
        split_m=splits[..., 0],
        split_n=splits[..., 1],
        split_k=splits[..., 2],
    )
