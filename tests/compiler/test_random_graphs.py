"""Random networks give the same tensors on every engine, and in onnxruntime on the model after `terms`."""

from __future__ import annotations

import pytest

from mmac.isa.verify import verify
from tests.compiler import nets
from tests.compiler.exact import TARGETS, back_end, front_end, wrong_tensors
from tests.compiler.random_graphs import random_graph

SEEDS = 48


@pytest.mark.parametrize("seed", range(SEEDS))
def test_every_tensor(seed, tmp_path):
    proto = random_graph(seed)
    partitioned = front_end(proto, tmp_path)
    target = list(TARGETS)[seed % len(TARGETS)]
    program = back_end(partitioned, TARGETS[target]())
    verify(program)
    assert not wrong_tensors(partitioned, program, nets.inputs(proto), [(0, 3, 7)[seed % 3]])


def test_the_graphs_have_something_of_everything():
    graphs = [random_graph(seed).graph for seed in range(SEEDS)]
    used = {node.op_type for graph in graphs for node in graph.node}
    assert used >= {"Conv", "MatMul", "Add", "Mul", "Softmax", "Slice", "Split", "Transpose", "Concat", "Pad"}
    assert {"MaxPool", "AveragePool", "GlobalAveragePool", "Sigmoid"} <= used
    read = [{name for node in graph.node for name in node.input} for graph in graphs]
    inner = [graph for graph, names in zip(graphs, read, strict=True) if {o.name for o in graph.output} & names]
    assert len(inner) >= 10
