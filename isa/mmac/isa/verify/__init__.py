"""The verifier: proves before execution that a program is safe, and refuses what it cannot prove.

In the spirit of eBPF's verifier it trusts nothing: a program may come from anywhere. Each module is one proof:

``metadata``   levels, tensors, ports, host segments and the debug map are consistent and in range
``operands``   every register field is valid and the boxes of an instruction's operands fit each other
``addresses``  every DRAM and scratchpad address of every iteration is in bounds, directories included
``tokens``     every wait finds a signal, loops leave the semaphores as they found them, the program ends
``races``      every scratchpad read is ordered after the write of what it reads, every overwrite after the reads of
               the old content; the same for DRAM between top-level instructions and loops
``dataflow``   every DRAM byte is written before it is read
``in_place``   a loop nest that stores where it loads puts each box back in its place, and waits until it is loaded
``debug``      debug entries name tensors at the end of a loop nest only, where every engine can look at them
``binding``    every `mmac` has one `load.terms`, of the same iteration
``tiles``      every weight tile's stream is what its directory entry and the instructions that use it say
``overflow``   no accumulator leaves int32 for any data, and constants are numbers that every engine treats alike

What passes, every engine executes without error. The work is bounded whatever the program says: loops are never
unrolled, and what would take too long is refused with a `ResourceError`.
"""

from __future__ import annotations

from mmac.isa.program import Program
from mmac.isa.verify.addresses import check_addresses
from mmac.isa.verify.binding import check_binding
from mmac.isa.verify.context import Context
from mmac.isa.verify.dataflow import check_dataflow
from mmac.isa.verify.debug import check_debug
from mmac.isa.verify.metadata import check_metadata
from mmac.isa.verify.operands import check_operands
from mmac.isa.verify.overflow import check_overflow
from mmac.isa.verify.races import check_races
from mmac.isa.verify.tiles import check_tiles
from mmac.isa.verify.tokens import check_tokens

__all__ = ["verify"]


def verify(program: Program) -> None:
    """Prove that `program` is safe to execute at each of its levels.

    Raises:
        VerificationError: something is wrong or cannot be proved; names the instruction and its ONNX node.
        ResourceError: the program is larger than the machine can be, or too large to be verified.
    """
    check_metadata(program)
    context = Context(program)
    check_operands(context)
    check_tokens(context)
    accesses = check_addresses(context)
    handovers = check_races(context, accesses)
    check_dataflow(context, accesses)
    check_debug(context)
    check_binding(context, handovers)
    tiles = check_tiles(context, accesses, handovers)
    check_overflow(context, accesses, handovers, tiles)
