"""Proof that a loop nest may store where it loads: each box goes back to where it came from, once it has been loaded.

It has two halves. `rewrites` compares the walks: no other box touches the bytes of a box, so that only the load and
the store of one iteration meet. `dataflow` asks for it wherever a nest stores to bytes that it loads. `check_wait`
then says that this store waits for this load; `races`, which knows the order of events, asks for that.
"""

from __future__ import annotations

from mmac.isa import table
from mmac.isa.spec import NONE_LOOP
from mmac.isa.structure import View
from mmac.isa.verify.context import Context, Site
from mmac.isa.verify.reach import whole


def rewrites(store: Site, load: Site) -> bool:
    """True if `store` puts each box where `load` has got it in the same iteration, and no other box touches it.

    That is so if both walk the same view, every loop moves it by whole boxes, and its elements lie apart.
    """
    if isinstance(store.op.instr, table.Load) or not isinstance(load.op.instr, table.Load):
        return False
    mine, other = store.op.views["t"], load.op.views["t"]
    steps = {step.loop: step for step in mine.walk if step.loop != NONE_LOOP}
    return (
        _walked(mine) == _walked(other)
        and store.loops == load.loops
        and load.pc < store.pc
        and steps.keys() == set(range(len(store.loops)))
        and all(abs(step.step) >= step.extent for step in steps.values())
        and not whole(mine.base, mine.elem, mine.shape, mine.strides).overlaps_itself()
    )


def check_wait(context: Context, site: Site, before: Site) -> None:
    """Refuse `site` if it stores in place of `before`, an access of the same node that may not be over.

    Raises:
        VerificationError: it does.
    """
    if rewrites(site, before):
        found = f"it overwrites the DRAM bytes that {context.where(before.pc)} may still be loading"
        raise context.error(site.pc, found, "a token from it first")


def _walked(view: View) -> tuple[object, ...]:
    """What decides which bytes a view's boxes are."""
    walk = [(s.origin, s.extent, s.loop, s.step if s.loop != NONE_LOOP else 0) for s in view.walk]
    return view.base, view.elem, view.shape, view.strides, walk
