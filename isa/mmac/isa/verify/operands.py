"""Proof that register fields are valid and that the boxes of an instruction's operands fit each other."""

from __future__ import annotations

import math
from collections.abc import Mapping

from mmac.isa import table
from mmac.isa.program import directory_dtype
from mmac.isa.spec import LEVEL_LOOP, NONE_LOOP, Instr, bits_float
from mmac.isa.structure import Step, View
from mmac.isa.verify.context import DIMS, Context, Site
from mmac.isa.verify.uses import USES

MAX_SCALE = 2.0**64
"""Beyond this, products with accumulators could leave the range of binary32."""


def check_operands(context: Context) -> None:
    """Check every queue instruction by itself.

    Raises:
        VerificationError: an operand is invalid or does not fit the others.
    """
    for site in context.sites:
        try:
            _check(context, site)
        except _Misfit as misfit:
            raise context.error(site.pc, *misfit.args) from None


class _Misfit(Exception):  # noqa: N818 - never leaves this module
    """What was found, and what is allowed."""


def _check(context: Context, site: Site) -> None:
    op, instr = site.op, site.op.instr
    for use in USES.get(type(instr), ()):
        pad = op.rings[use.ring].pad
        if pad not in use.pads:
            raise _Misfit(f"{use.ring} points to the {pad.name} scratchpad", _names(use.pads))
    for name, view in op.views.items():
        _check_view(name, view)
    match instr:
        case table.LoadTerms():
            _check_directory(context, op.views["t"])
        case table.Store():
            _check_result("t", op.views["t"], site)
        case table.StoreAcc():
            _check_bytes(op.views)
            _check_result("t", op.views["t"], site)
        case table.Mmac():
            _check_mmac(context, site, instr)
        case table.Vadd() | table.Vmul() | table.Vtable() | table.Vmax() | table.Vavg():
            _check_vector(site)
        case table.Host():
            _require(instr.segment < len(context.program.host), f"host segment {instr.segment}",
                     f"the program has {len(context.program.host)}")  # fmt: skip
    if type(instr) in _QUANT_FIELDS:
        _check_quant(site.op.quant, _QUANT_FIELDS[type(instr)])


def _names(pads: frozenset[table.Pad]) -> str:
    return " or ".join(pad.name for pad in sorted(pads))


def _require(condition: bool, found: str, allowed: str) -> None:
    if not condition:
        raise _Misfit(found, allowed)


# ------------------------------------------------------------------------------------------------------------- views


def _check_view(name: str, view: View) -> None:
    _require(view.elem >= 1, f"{name} has elements of 0 bytes", "1 or more")
    for dim, size, step in zip(DIMS, view.shape, view.walk, strict=True):
        _require(size >= 1, f"{name} has size 0 in {dim}", "1 or more")
        _require(step.extent >= 1, f"the box of {name} has extent 0 in {dim}", "1 or more")


def _check_bytes(views: Mapping[str, View]) -> None:
    for name, view in views.items():
        _require(view.elem == 1, f"{name} has elements of {view.elem} bytes", "1 byte")


def _check_directory(context: Context, view: View) -> None:
    size = directory_dtype(context.levels).itemsize
    _require(view.elem == size, f"t has elements of {view.elem} bytes",
             f"directory entries of {size} bytes for {context.levels} levels")  # fmt: skip
    _require(math.prod(view.box) == 1, f"t has a box of {_box(view)}", "one directory entry")


def _check_result(name: str, view: View, site: Site) -> None:
    """A box that results go to: it meets its view in every iteration, whatever the level."""
    for dim, size, step in zip(DIMS, view.shape, view.walk, strict=True):
        _require(step.loop != LEVEL_LOOP, f"{name} moves with the level", "only loads may")
        first, last = _ends(step, site)
        _require(first > -step.extent and last < size,
                 f"the box of {name} lies outside its view in {dim}: it starts at {first} … {last}",
                 f"{1 - step.extent} … {size - 1} for a box of {step.extent} on {size} elements")  # fmt: skip


def _ends(step: Step, site: Site) -> tuple[int, int]:
    """Lowest and highest start of a box along one dimension."""
    count = 1 if step.loop == NONE_LOOP else site.counts[step.loop]
    start, stop = step.origin, step.origin + step.step * (count - 1)
    return min(start, stop), max(start, stop)


def _box(view: View) -> str:
    return "×".join(map(str, view.box))


# ---------------------------------------------------------------------------------------------------------- registers


_QUANT_FIELDS: dict[type[Instr], tuple[str, ...]] = {
    table.Mmac: ("a",),
    table.Vadd: ("a", "b", "y", "a_scale", "b_scale"),
    table.Vmul: ("a", "b", "y", "a_scale"),
    table.Vmax: ("a",),
    table.Vavg: ("a", "y", "a_scale"),
    table.StoreAcc: ("y",),
}
"""What each instruction uses of the quantization register: operands a and b, result y, scales."""


def _check_quant(quant: table.Quant | None, fields: tuple[str, ...]) -> None:
    if quant is None:
        raise _Misfit("no quantization is set", "quant before it")
    for name in fields:
        if name.endswith("_scale"):
            scale = float(bits_float(getattr(quant, name)))
            _require(abs(scale) <= MAX_SCALE, f"{name} is {scale}", f"magnitudes up to {MAX_SCALE:.3g}")
            continue
        zero, (low, high) = getattr(quant, f"{name}_zero"), _byte_range(getattr(quant, f"{name}_signed"))
        _require(low <= zero <= high, f"{name}_zero is {zero}", f"{low} … {high}")
        if name == "y":
            _require(low <= quant.y_min <= quant.y_max <= high, f"the clamp is {quant.y_min} … {quant.y_max}",
                     f"ranges within {low} … {high}")  # fmt: skip


def _byte_range(signed: int) -> tuple[int, int]:
    return (-128, 127) if signed else (0, 255)


def _conv(site: Site) -> table.Conv:
    conv = site.op.conv
    if conv is None:
        raise _Misfit("no geometry is set", "conv before it")
    for name in ("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "ic", "oc"):
        _require(getattr(conv, name) >= 1, f"{name} is 0 in the geometry", "1 or more")
    return conv


# ------------------------------------------------------------------------------------------------------- array, vector


def _check_windows(site: Site) -> table.Conv:
    """The box of x holds the windows of the whole box of y."""
    conv, x, y = _conv(site), site.op.views["x"], site.op.views["y"]
    _require(x.box[0] == y.box[0], f"x has {x.box[0]} images in its box", f"{y.box[0]} as y")
    for dim, axis in (("h", 1), ("w", 2)):
        stride, kernel, dilation = (getattr(conv, f"{field}_{dim}") for field in ("stride", "kernel", "dilation"))
        needed = (y.box[axis] - 1) * stride + (kernel - 1) * dilation + 1
        _require(x.box[axis] >= needed, f"the box of x has extent {x.box[axis]} in {dim}",
                 f"at least {needed} for {y.box[axis]} windows")  # fmt: skip
    return conv


def _check_mmac(context: Context, site: Site, instr: table.Mmac) -> None:
    _check_compute(site)
    conv, x, y = _check_windows(site), site.op.views["x"], site.op.views["y"]
    if y.box[3] <= conv.oc:
        needed = conv.ic
    else:
        _require(y.box[3] % conv.oc == 0, f"the box of y has {y.box[3]} channels",
                 f"whole convolution groups of {conv.oc}")  # fmt: skip
        needed = y.box[3] // conv.oc * conv.ic
    _require(x.box[3] == needed, f"the box of x has {x.box[3]} channels", f"{needed} for {y.box[3]} of y")
    layers = len(context.program.plan.layers)
    _require(instr.layer < layers, f"layer {instr.layer}", f"the plan has {layers}")
    levels = len(context.program.plan.levels)
    _require(instr.multipliers < 1 << levels, f"multipliers {instr.multipliers:#x}", f"bits of {levels} levels")
    for name in ("split_m", "split_n", "split_k"):
        _require(getattr(instr, name) >= 1, f"{name} is 0", "1 or more")
    if instr.first != NONE_LOOP:
        _check_first(site, instr.first)


def _check_first(site: Site, first: int) -> None:
    """Sums over a loop stay in one place, so that iteration 0 has set all that the others add to."""
    _require(first == len(site.counts) - 1, f"first names loop {first}", "the innermost open loop, or none")
    moves = any(step.loop == first for step in site.op.views["y"].walk)
    _require(not moves, f"y moves with loop {first}, over which sums accumulate", "a y that stays")
    alternates = site.op.rings["acc"].mask >> first & 1
    _require(not alternates, f"acc alternates with loop {first}, over which sums accumulate", "one slot")


def _check_vector(site: Site) -> None:
    op = site.op
    _check_compute(site)
    match op.instr:
        case table.Vadd() | table.Vmul():
            for name in "ab":
                for dim, extent, allowed in zip(DIMS, op.views[name].box, op.views["y"].box, strict=True):
                    _require(extent in (1, allowed), f"the box of {name} has extent {extent} in {dim}",
                             f"{allowed} as y, or 1")  # fmt: skip
        case table.Vmax() | table.Vavg():
            _check_windows(site)
            channels = op.views["x"].box[3], op.views["y"].box[3]
            _require(channels[0] == channels[1], f"the box of x has {channels[0]} channels", f"{channels[1]} as y")
    if isinstance(op.instr, table.Vavg) and op.quant is not None and _leaves_view(op.views["x"], site):
        fill, zero = op.views["x"].fill, op.quant.a_zero & 0xFF
        _require(fill == zero, f"x is filled with {fill}", f"the byte of a_zero, {zero}")


def _leaves_view(view: View, site: Site) -> bool:
    for size, step in zip(view.shape, view.walk, strict=True):
        first, last = _ends(step, site)
        if first < 0 or last + step.extent > size:
            return True
    return False


def _check_compute(site: Site) -> None:
    """What all instructions of the array and the vector unit need."""
    op = site.op
    _check_bytes(op.views)
    for name, view in op.views.items():
        for step in view.walk:
            _require(step.loop != LEVEL_LOOP, f"{name} moves with the level", "only loads may")
    _check_result("y", op.views["y"], site)
