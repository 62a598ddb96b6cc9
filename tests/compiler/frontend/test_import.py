"""Import: what good files become, and a clear error for each kind of bad one."""

import contextlib
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from mmac.compiler.frontend import NOTES, ImportModel, static_shape
from mmac.compiler.graph import run
from mmac.isa.errors import MalformedError, MmacError, ResourceError, UnsupportedError, UsageError
from tests.compiler.graph.small import feeds, model, original, save

F = np.float32
CONV = "(float[1,3,8,8] x) => (float[a,b,c,d] y) { y = Conv (x, w[4,3,3,3], w[4]) }"


def failure(path: Path, kind: type[MmacError], **dims: int) -> str:
    with pytest.raises(kind) as info:
        ImportModel(dims).apply(path)
    return str(info.value)


def edited(folder: Path, change: object) -> Path:
    """The Conv model with a change made to its protobuf."""
    proto = model(CONV)
    change(proto)  # type: ignore[operator]
    path = folder / "edited.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


# --------------------------------------------------------------------------------------------------------- good files


def test_import_keeps_names_and_results(tmp_path: Path) -> None:
    proto = model(CONV)
    state = ImportModel().apply(save(proto, tmp_path))
    assert [v.name for v in state.graph.inputs] == ["x"]
    assert static_shape(state.graph.outputs[0]) == (1, 4, 6, 6)
    assert state.graph[0].metadata_props["mmac.source"] == "conv0"
    np.testing.assert_array_equal(run(state, feeds(proto))["y"], original(proto, feeds(proto))[0])


def test_old_opset_is_converted(tmp_path: Path) -> None:
    text = """(float[2,3,9,9] x) => (float[a,b,c,d] y) {
        p = Pad <pads=[0,0,1,1,0,0,1,1]> (x)
        n = BatchNormalization (p, g, g, m, g)
        c = Clip <min=0.0, max=1.5> (n)
        d = Conv (c, w[8,3,5,5])
        u = Upsample <mode="nearest"> (d, s)
        y = Dropout <ratio=0.3> (u)
    }"""
    g = np.linspace(0.5, 1, 3, dtype=F)
    proto = model(text, 9, g=g, m=g, s=np.array([1, 1, 2, 2], F))
    big = proto.graph.initializer[-1]
    assert big.name.startswith("weight")
    assert len(big.raw_data) > 1024
    state = ImportModel().apply(save(proto, tmp_path))
    assert state.opset_imports[""] == 13
    np.testing.assert_allclose(run(state, feeds(proto))["y"], original(proto, feeds(proto))[0], atol=1e-5)


def test_initializers_among_the_inputs(tmp_path: Path) -> None:
    proto = model(CONV, 9)
    proto.ir_version = 3
    for tensor in proto.graph.initializer:
        proto.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    state = ImportModel().apply(save(proto, tmp_path))
    assert [v.name for v in state.graph.inputs] == ["x"]


def test_functions_are_inlined(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[2,3] x) => (float[2,3] y) { y = local.twice (x) }
        <domain: "local", opset_import: ["" : 17]> twice (a) => (b) { b = Add (a, a) }
    """)
    state = ImportModel().apply(save(proto, tmp_path))
    assert [node.op_type for node in state.graph] == ["Add"]
    assert not state.functions


def test_nodes_in_any_order_get_unique_names(tmp_path: Path) -> None:
    proto = model("(float[2] x) => (float[2] y) { a = Relu (x) b = Neg (a) y = Exp (b) }")
    for node in proto.graph.node:
        node.name = "same"
    proto.graph.node.insert(0, proto.graph.node.pop())
    path = tmp_path / "shuffled.onnx"
    path.write_bytes(proto.SerializeToString())
    state = ImportModel().apply(path)
    assert [node.op_type for node in state.graph] == ["Relu", "Neg", "Exp"]
    assert [node.name for node in state.graph] == ["same", "same_2", "same_3"]


def test_nodes_without_names(tmp_path: Path) -> None:
    proto = model("(float[2] x) => (float[2] y) { a = Relu (x) b = Relu (a) y = Exp (b) }")
    for node in proto.graph.node:
        node.name = ""
    proto.graph.node[2].name = "Relu_0"
    state = ImportModel().apply(save(proto, tmp_path))
    assert [node.name for node in state.graph] == ["Relu_0", "Relu_1", "Relu_0_2"]


def test_external_data(tmp_path: Path) -> None:
    proto = model(CONV)
    path = tmp_path / "external.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    state = ImportModel().apply(path)
    np.testing.assert_array_equal(run(state, feeds(model(CONV)))["y"], original(model(CONV), feeds(model(CONV)))[0])


# --------------------------------------------------------------------------------------------------------- dimensions

DYNAMIC = "(float[batch,3,height,width] x) => (float[batch,4,p,q] y) { y = Conv (x, w[4,3,3,3]) }"


def test_batch_is_one_and_says_so(tmp_path: Path) -> None:
    state = ImportModel({"height": 10, "width": 7}).apply(save(model(DYNAMIC), tmp_path))
    assert static_shape(state.graph.inputs[0]) == (1, 3, 10, 7)
    assert static_shape(state.graph.outputs[0]) == (1, 4, 8, 5)
    assert "'batch' of axis 0 is taken as 1 (change it with --dim batch=N)" in state.metadata_props[NOTES]


def test_batch_can_be_set(tmp_path: Path) -> None:
    state = ImportModel({"height": 10, "width": 7, "batch": 3}).apply(save(model(DYNAMIC), tmp_path))
    assert static_shape(state.graph.outputs[0]) == (3, 4, 8, 5)
    assert NOTES not in state.metadata_props


@pytest.mark.parametrize("placeholder", ["?", "", None, -1])
def test_dimensions_without_a_name(tmp_path: Path, placeholder: object) -> None:
    proto = model(DYNAMIC)
    for axis in (0, 2):
        dim = proto.graph.input[0].type.tensor_type.shape.dim[axis]
        dim.Clear()
        if isinstance(placeholder, str):
            dim.dim_param = placeholder
        elif placeholder is not None:
            dim.dim_value = -1
    path = save(proto, tmp_path)
    assert "dimension 'x[2]' has no number; a positive number; --dim x[2]=N" in failure(path, UsageError, width=5)
    state = ImportModel({"x[2]": 6, "width": 5}).apply(path)
    assert static_shape(state.graph.inputs[0]) == (1, 3, 6, 5)


def test_unbound_unknown_and_impossible_dimensions(tmp_path: Path) -> None:
    path = save(model(DYNAMIC), tmp_path)
    assert "input 'x', axis 2: dimension 'height' has no number" in failure(path, UsageError)
    assert "--dim hight: no input has such a dimension; one of height" in failure(
        path, UsageError, height=5, width=5, hight=5
    )
    assert "--dim width: 0; a positive number" in failure(path, UsageError, height=5, width=0)
    assert "none: every dimension is fixed" in failure(save(model(CONV), tmp_path), UsageError, n=1)


def test_dimensions_that_do_not_fit(tmp_path: Path) -> None:
    message = failure(save(model(DYNAMIC), tmp_path), MalformedError, height=1, width=1)
    assert "'y': shape [1, 4, -1, -1]; a larger input" in message


def test_shapes_that_contradict_each_other(tmp_path: Path) -> None:
    text = "(float[2,h] x) => (float[a,b] y) { y = MatMul (x, w[3,4]) }"
    assert "shapes or types do not fit" in failure(save(model(text), tmp_path), MalformedError, h=5)


@pytest.mark.parametrize(("channels", "outputs", "group"), [(5, 4, 1), (6, 4, 1), (6, 3, 2)])
def test_channels_that_do_not_fit_the_weights(tmp_path: Path, channels: int, outputs: int, group: int) -> None:
    text = f"(float[1,h,8,8] x) => (float[a,b,c,d] y) {{ y = Conv <group={group}> (x, w[{outputs},3,3,3]) }}"
    message = failure(save(model(text), tmp_path), MalformedError, h=channels)
    assert f"node 'conv0': shapes or types do not fit: {channels} input channels" in message


def test_more_memory_than_the_machine_has(tmp_path: Path) -> None:
    text = "(float[n,k] x) => (float[a,b] y) { y = Relu (x) }"
    message = failure(save(model(text), tmp_path), ResourceError, n=2**22, k=2**22)
    assert "GiB" in message
    assert "--dim" in message


# ---------------------------------------------------------------------------------------------------------- bad files


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "no such file" in failure(tmp_path / "none.onnx", UsageError)
    assert "not a file" in failure(tmp_path, UsageError)


def test_every_truncation_is_malformed(tmp_path: Path) -> None:
    data = model(CONV).SerializeToString()
    path = tmp_path / "cut.onnx"
    for size in range(0, len(data), 13):
        path.write_bytes(data[:size])
        failure(path, MalformedError)


def test_mutations_give_typed_errors_only(tmp_path: Path) -> None:
    data = model(CONV).SerializeToString()
    path, rng = tmp_path / "mutated.onnx", np.random.default_rng(0)
    for _ in range(300):
        bad = bytearray(data)
        bad[rng.integers(len(bad))] = rng.integers(256)
        path.write_bytes(bad)
        with contextlib.suppress(MmacError):
            ImportModel().apply(path)


def test_not_onnx(tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("this is no model at all")
    assert "not an ONNX model" in failure(path, MalformedError)


def test_unknown_opset(tmp_path: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.opset_import[0].version = 99

    assert "opset 99; opset 1…" in failure(edited(tmp_path, change), UnsupportedError)


def test_opset_that_cannot_be_converted(tmp_path: Path) -> None:
    text = "(float[2,3] x) => (float[2,3] y) { y = BatchNormalization <spatial=0> (x, x, x, x, x) }"
    path = tmp_path / "old.onnx"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 3, opset_import: ["" : 7]> g {text}'), path)
    message = failure(path, UnsupportedError)
    assert "opset 7, which cannot be converted: " in message
    assert message.endswith("opset 13…27; export it again with opset 17")


def test_input_of_unknown_rank(tmp_path: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.input[0].type.tensor_type.ClearField("shape")

    assert "Field 'shape' of 'type' is required" in failure(edited(tmp_path, change), MalformedError)


def test_unknown_operator(tmp_path: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.node[0].domain = "com.example"
        proto.opset_import.append(onnx.helper.make_opsetid("com.example", 1))

    assert "node 'conv0': operator com.example::Conv" in failure(edited(tmp_path, change), UnsupportedError)


def test_cycle(tmp_path: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.node[0].input[0] = "z"
        proto.graph.node.append(onnx.helper.make_node("Relu", ["y"], ["z"]))

    assert "not a valid ONNX model" in failure(edited(tmp_path, change), MalformedError)


def test_names_that_nothing_produces(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def read(proto: onnx.ModelProto) -> None:
        proto.graph.node[0].input[1] = "nowhere"

    message = failure(edited(tmp_path, read), MalformedError)
    assert message.endswith(
        "node 'conv0': reads 'nowhere', which nothing produces; model inputs, initializers and results of nodes; "
        "export the model again"
    )

    def write(proto: onnx.ModelProto) -> None:
        proto.graph.node[0].output[0] = "elsewhere"

    assert "nothing produces the output 'y'; " in failure(edited(tmp_path, write), MalformedError)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "good"), [("x", True), ("inside", True), ("later", True), ("nowhere", False)])
def test_names_in_subgraphs(tmp_path: Path, name: str, good: bool) -> None:
    proto = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] x, bool c) => (float[2] y) {{
            y = If (c) <then_branch = a () => (float[2] p) {{ inside = Neg (x) p = Relu ({name}) }},
                        else_branch = b () => (float[2] q) {{ q = Relu (later) }}>
            later = Neg (x)
        }}""")
    path = save(proto, tmp_path)
    if good:
        ImportModel().apply(path)
    else:
        assert "node 'If': node 'Relu': reads 'nowhere', which nothing produces" in failure(path, MalformedError)


def test_names_in_functions(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[2,3] x) => (float[2,3] y) { y = local.twice (x) }
        <domain: "local", opset_import: ["" : 17]> twice (a) => (b) { b = Add (a, x) }
    """)
    message = failure(save(proto, tmp_path), MalformedError)
    assert "function 'twice': node 'Add': reads 'x', which nothing produces" in message


def test_wrong_attribute(tmp_path: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.node[0].attribute.append(onnx.helper.make_attribute("colour", "red"))

    assert "colour" in failure(edited(tmp_path, change), MalformedError)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(tmp_path: Path, value: float) -> None:
    def change(proto: onnx.ModelProto) -> None:
        array = onnx.numpy_helper.to_array(proto.graph.initializer[0]).copy()
        array[2, 1, 0, 2] = value
        proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(array, proto.graph.initializer[0].name))

    message = failure(edited(tmp_path, change), MalformedError)
    assert f"initializer 'weight0': {value} at index [2, 1, 0, 2]; finite weights" in message


def test_data_that_do_not_fill_the_tensor(tmp_path: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]

    assert "weight0" in failure(edited(tmp_path, change), MalformedError)


def test_empty_tensor(tmp_path: Path) -> None:
    text = "(float[1,0,8,8] x) => (float[a,b,c,d] y) { y = Relu (x) }"
    assert "'x': shape [1, 0, 8, 8] has no elements" in failure(save(model(text), tmp_path), MalformedError)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(string[4] x) => (string[4] y) { y = Identity (x) }", "input 'x': is string;"),
        ("(bfloat16[4] x) => (bfloat16[4] y) { y = Identity (x) }", "input 'x': is bfloat16;"),
        ("(float[4] x) => (float8e5m2[4] y) { y = Cast <to=19> (x) }", "output 'y': is float8e5m2;"),
        ("(float[4] x) => (seq(float[1]) y) { y = SplitToSequence (x) }", "output 'y': is a sequence;"),
        ("(optional(float[4]) x) => (float[4] y) { y = OptionalGetElement (x) }", "input 'x': is optional;"),
    ],
)
def test_inputs_and_outputs_without_numbers(tmp_path: Path, text: str, found: str) -> None:
    text = failure(save(model(text, 19), tmp_path), UnsupportedError)
    assert f"{found} tensors of bool, float16, float32" in text
    assert text.endswith("uint8; convert it outside of the model")


def external(folder: Path, location: str) -> Path:
    """The Conv model with its first weight in another file."""

    def change(proto: onnx.ModelProto) -> None:
        tensor = proto.graph.initializer[0]
        data = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        tensor.external_data.add(key="length", value=str(len(data)))

    return edited(folder, change)


def test_external_data_missing_or_short(tmp_path: Path) -> None:
    assert "'weights.bin' is missing" in failure(external(tmp_path, "weights.bin"), MalformedError)
    (tmp_path / "weights.bin").write_bytes(bytes(5))
    assert "ends before byte 432" in failure(external(tmp_path, "weights.bin"), MalformedError)


def test_the_oracle_refuses_the_same_operator() -> None:
    """The list of operators is onnxruntime's own."""
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> '
        "g (float[2,3] x) => (float[2,3] y) { y = com.microsoft.Nonsense (x) }"
    )
    with pytest.raises(Exception, match="Nonsense"):
        ort.InferenceSession(proto.SerializeToString())
