"""The cell engine: every register of every cell stepped clock cycle by clock cycle.

It is the ground truth for values and for cycles: sums are what simulated registers hold at the end, and a duration is
the number of steps that it took. For small programs on small arrays; `docs/hardware.md` describes what is stepped.

    layout, placement     how an `mmac` is split over blocks and passes; what each row and column has when
    control               the sequencer, and the registers through which its tokens hop
    cells                 the kinds of cells, register by register
    array, multipliers    the two units that can execute an `mmac`
    operands, hardware    what they read; which of them, and how much there is to step
    engine, queues        programs: values, and cycles
"""

from mmac.runtime.engines.cell.engine import CellEngine as CellEngine
from mmac.runtime.engines.cell.queues import cycles as cycles
