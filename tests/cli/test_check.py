"""`mmac check`: the fate of each node."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from mmac.compiler import Options, check_model, compile_model
from mmac.compiler.fates import FATES
from tests.cli.conftest import net
from tests.commands import DATA, mmac


def test_text_and_json(folder: Path) -> None:
    result = mmac("check", folder / "net.onnx")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "4 array, 1 vector, 1 folded, 1 host"
    assert result.stderr == ""
    about = json.loads(mmac("check", folder / "net.onnx", "--json").stdout)
    assert about["count"] == {"array": 4, "vector": 1, "folded": 1, "host": 1, "refused": 0}
    fates = {node["node"]: node for node in about["nodes"]}
    assert [node["op"] for node in about["nodes"]] == [node.op_type for node in net().graph.node]
    assert fates["relu1"] == {
        "node": "relu1",
        "op": "Relu",
        "fate": "array",
        "reason": "part of conv0",
        "hint": "",
    }
    assert fates["flatten4"]["fate"] == "folded"
    assert fates["softmax6"]["fate"] == "host"
    assert "Softmax" in fates["softmax6"]["reason"]
    assert fates["softmax6"]["hint"]


def test_host_nodes_are_those_of_the_program(folder: Path) -> None:
    host = {fate.node for fate in check_model(folder / "net.onnx") if fate.fate == "host"}
    with pytest.warns(match="no calibration data"):
        program = compile_model(folder / "net.onnx", Options()).program
    in_segments = {name.split()[1] for segment in program.host for name, _ in segment.nodes}
    assert host == in_segments & {node.name for node in net().graph.node}


def test_batch_norm_is_folded() -> None:
    fates = check_model(DATA / "fashion_mnist_cnn.onnx")
    assert {fate.fate for fate in fates if fate.op == "BatchNormalization"} == {"folded"}
    assert {fate.fate for fate in fates if fate.op in ("Conv", "Gemm")} == {"array"}
    assert {fate.fate for fate in fates} <= set(FATES)


def test_refused_nodes_exit_with_3(tmp_path: Path) -> None:
    model = net()
    for index in (1, 4):
        model.graph.node[index].domain = "com.example"
    model.opset_import.add(domain="com.example", version=1)
    onnx.save(model, tmp_path / "net.onnx")
    result = mmac("check", tmp_path / "net.onnx", "--json")
    assert result.exit_code == 3
    nodes = json.loads(result.stdout)["nodes"]
    assert [(node["node"], node["op"], node["fate"]) for node in nodes] == [
        ("relu1", "com.example.Relu", "refused"),
        ("flatten4", "com.example.Flatten", "refused"),
    ]
    assert all(node["reason"] and node["hint"] for node in nodes)


def test_dims_and_bad_files(folder: Path, tmp_path: Path) -> None:
    assert mmac("check", folder / "net.onnx", "--dim", "batch=3").exit_code == 0
    assert mmac("check", folder / "net.onnx", "--dim", "x=3").exit_code == 2
    assert mmac("check", tmp_path / "no.onnx").exit_code == 2
    (tmp_path / "bad.onnx").write_bytes((folder / "net.onnx").read_bytes()[:50])
    assert mmac("check", tmp_path / "bad.onnx").exit_code == 4


def test_reasons_come_with_advice(tmp_path: Path) -> None:
    """Layers that stay on the host for different reasons each come with advice."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        odd (float[1,4,6,6,6] volume, float[4,4] m, float[2,4,4] n, int64[2,3] ids)
            => (float[1,4,6,6,6] a, float[2,4,4] c, int64[3,2] d)
        {
            a = Conv <kernel_shape=[1,1,1]> (volume, w3)
            b = MatMul (m, n)
            c = Hardmax (b)
            d = Transpose (ids)
        }""")
    for node in model.graph.node:
        node.name = node.op_type
    weights = np.ones((4, 4, 1, 1, 1), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w3"))
    onnx.save(model, tmp_path / "odd.onnx")
    fates = {fate.op: fate for fate in check_model(tmp_path / "odd.onnx")}
    assert {fate.fate for fate in fates.values()} == {"host"}
    assert "3-D convolution" in fates["Conv"].reason
    assert "constant weights only" in fates["MatMul"].hint
    assert "indices" in fates["Transpose"].hint
    assert fates["Hardmax"].hint == "onnxruntime computes it, at no loss of accuracy"


@pytest.mark.parametrize("command", [("check",), ("compile", "-o", "net.mmac")])
def test_a_limit_on_memory(folder: Path, command: tuple[str, ...]) -> None:
    name, *rest = command
    result = mmac(name, folder / "net.onnx", "--max-memory", "100", *rest)
    assert result.exit_code == 5
    assert "the memory of this machine or what --max-memory gives" in result.stderr
    assert mmac("check", folder / "net.onnx", "--max-memory", "1g").exit_code == 0


@pytest.mark.parametrize("text", ["", "0", "much", "-1", "1.5G", "1P", "9999999999"])
def test_sizes_that_are_none(folder: Path, text: str) -> None:
    result = mmac("check", folder / "net.onnx", f"--max-memory={text}")
    assert result.exit_code == 2
    assert f"--max-memory {text!r}: not a size; a number of bytes, or one with K, M, G or T" in result.stderr
