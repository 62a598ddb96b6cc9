"""Each thing that the tile IR's verifier looks at, broken alone, is found."""

from dataclasses import replace

import pytest

from mmac.compiler.pipeline import Options, run_passes
from mmac.compiler.tile.check import check
from mmac.compiler.tile.ir import ArrayLayer, HostCall, Move, VectorOp
from mmac.isa import table
from mmac.isa.errors import VerificationError
from tests.compiler import nets


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    import warnings

    path = nets.save("branches", tmp_path_factory.mktemp("nets"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_passes(path, Options(), "allocate")[0]


def change(module, kind, **fields):
    """Change fields of the first operation of a kind."""
    index = next(i for i, op in enumerate(module.operations) if isinstance(op, kind))
    operations = list(module.operations)
    values = {k: v(operations[index]) if callable(v) else v for k, v in fields.items()}
    operations[index] = replace(operations[index], **values)
    return replace(module, operations=tuple(operations))


def test_a_compiled_network_passes(module):
    check(module)


BROKEN = {
    "no buffer nowhere": lambda m: change(m, ArrayLayer, y=lambda op: replace(op.y, buffer="nowhere")),
    "reaches outside its buffer": lambda m: change(m, ArrayLayer, y=lambda op: replace(op.y, offset=1)),
    "in 3 groups": lambda m: change(m, ArrayLayer, groups=3),
    "no layer 99 in the plan": lambda m: change(m, ArrayLayer, layer=99),
    "weights of shape": lambda m: change(m, ArrayLayer, weights=_last(m).weights),
    "tile .* of ": lambda m: change(m, ArrayLayer, mapping=lambda op: replace(op.mapping, rows=99)),
    "cuts groups of": lambda m: change(m, ArrayLayer, mapping=lambda op: replace(op.mapping, channels=op.oc - 1)),
    "names register t9": lambda m: change(
        m, ArrayLayer, nest=lambda op: replace(op.nest, body=(table.Load(t=9, p=0),))
    ),
    "names register p9": lambda m: change(
        m, ArrayLayer, nest=lambda op: replace(op.nest, body=(table.Load(t=0, p=9),))
    ),
    "does not broadcast": lambda m: change(m, VectorOp, b=lambda op: replace(op.a, shape=(1, 2, 1, 1))),
    "outputs of different shapes": lambda m: change(
        m, Move, outs=lambda op: (op.outs[0], replace(op.outs[0], shape=(1, 1, 1, 1)))
    ),
    "no host segment 0": lambda m: replace(m, operations=(*m.operations, HostCall("h", 0, (), ()))),
    "before anything is written": lambda m: replace(m, operations=m.operations[::-1]),
    "two buffers have the same name": lambda m: replace(m, buffers=(*m.buffers, m.buffers[0])),
    "overlaps": lambda m: replace(m, buffers=tuple(replace(b, base=0) for b in m.buffers)),
}


def _issue(op, instr):
    return replace(op.nest, body=(instr,))


def _last(module):
    return [op for op in module.operations if isinstance(op, ArrayLayer)][-1]


@pytest.mark.parametrize("message", BROKEN)
def test_what_is_broken_is_found(module, message):
    with pytest.raises(VerificationError, match=message):
        check(BROKEN[message](module))
