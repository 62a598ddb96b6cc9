"""`evaluate`: its numbers are those of one image after the other, whatever batches, parts and processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mmac.compiler import evaluate
from mmac.compiler.evaluation import Evaluation, Samples, classification, runner, user_metric
from mmac.isa.errors import MalformedError, MmacError, ResourceError, UsageError
from mmac.isa.program import Program
from mmac.runtime import estimate
from tests.compiler.evaluation.classifier import CLASSES, LEVELS, images, original, program, scores
from tests.runtime.programs import Builder

COUNT = 80
DATA = images(COUNT, 5)
LABELS = np.random.default_rng(2).integers(0, CLASSES, COUNT)
SAMPLES = Samples({"image": DATA}, LABELS)


def shares(found: Evaluation) -> list[dict[str, float]]:
    return [row.metrics for row in found.levels]


@pytest.fixture(scope="module")
def expected() -> list[dict[str, float]]:
    results = []
    for level in range(len(LEVELS)):
        order = np.argsort(-scores(DATA, level), axis=1, kind="stable")
        right = order == LABELS[:, None]
        results.append({"top1": right[:, :1].any(1).mean(), "top5": right[:, :5].any(1).mean()})
    return results


@pytest.mark.parametrize("batch", [1, 9])
def test_accuracy_is_that_of_one_image_after_the_other(batch: int, expected: list[dict[str, float]]) -> None:
    """80 images are no multiple of a batch of 9, nor of a part."""
    seen: list[tuple[int, int]] = []
    found = evaluate(program(batch), SAMPLES, progress=lambda what, done, count: seen.append((done, count)))
    assert shares(found) == expected
    assert (found.samples, found.batch, found.original) == (COUNT, batch, None)
    assert seen[0] == (0, COUNT)
    assert seen[-1] == (COUNT, COUNT)
    assert len(seen) == 3
    costs = estimate(program(batch)).levels
    for row, cost in zip(found.levels, costs, strict=True):
        assert (row.level, row.latency_ms, row.energy_mj) == (cost.level, cost.latency_ms, cost.energy_mj)
        assert row.agreement is None


def test_processes_give_the_same(expected: list[dict[str, float]]) -> None:
    assert shares(evaluate(program(), SAMPLES, jobs=2)) == expected


def test_a_process_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pool(ThreadPoolExecutor):
        def __init__(self, jobs: int, *_: object) -> None:
            super().__init__(jobs)

    def run(samples: Samples) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(runner, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(runner, "_run", run)
    with pytest.raises(ResourceError, match="jobs: a process ended early; memory for all of them; give fewer jobs"):
        evaluate(program(), SAMPLES, jobs=2)


def test_a_sample_that_the_program_does_not_take() -> None:
    data = DATA.copy()
    data[-1, 0, 0, 0] = np.nan
    with pytest.raises(MalformedError, match="input 'image': contains NaN"):
        evaluate(program(), Samples({"image": data}, LABELS))


def test_some_levels_and_samples() -> None:
    found = evaluate(program(), SAMPLES, levels=[2, 0], samples=3)
    assert [row.level for row in found.levels] == ["full", "2x1"]
    chosen = [0, 40, 79]
    for row, level in zip(found.levels, (2, 0), strict=True):
        assert row.metrics["top1"] == (scores(DATA[chosen], level).argmax(1) == LABELS[chosen]).mean()
    for wrong in (0, COUNT + 1):
        with pytest.raises(UsageError, match=f"samples: {wrong}; 1…80, as many as the dataset has"):
            evaluate(program(), SAMPLES, samples=wrong)
    with pytest.raises(UsageError, match="jobs: 0; 1 or more processes"):
        evaluate(program(), SAMPLES, jobs=0)


def test_the_original_model(tmp_path: Path) -> None:
    onnx.save(original(), path := tmp_path / "model.onnx")
    found = evaluate(program(9), SAMPLES, original=path)
    (floats,) = onnxruntime.InferenceSession(path).run(["scores"], {"image": DATA})
    assert found.original is not None
    assert found.original["top1"] == (floats.argmax(1) == LABELS).mean()
    for level, row in enumerate(found.levels):
        assert row.agreement == (scores(DATA, level).argmax(1) == floats.argmax(1)).mean()
    assert found.levels[-1].agreement == pytest.approx(1, abs=0.05)
    assert found.levels[0].agreement < found.levels[-1].agreement  # type: ignore[operator]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no model", "onnxruntime refuses it: "),
        ("image", "has no 'image', as the program has; picture; give the model it is from"),
        ("scores", "has no 'scores', as the program has; more, points; give the model it is from"),
        ("batch", "onnxruntime refuses it: "),
    ],
)
def test_originals_that_are_none(tmp_path: Path, content: bytes | str, message: str) -> None:
    path = tmp_path / "model.onnx"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        other = onnx.ModelProto()
        other.CopyFrom(original())
        if content == "batch":
            other.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
        elif content == "image":
            other.graph.input[0].name = other.graph.node[0].input[0] = "picture"
        else:
            other.graph.output[0].name = other.graph.node[4].output[0] = "points"
        onnx.save(other, path)
    with pytest.raises(MalformedError) as raised:
        evaluate(program(), SAMPLES, original=path)
    assert str(raised.value).startswith(f"{path}: {message}")


def test_a_function_gets_all_outputs_of_all_samples() -> None:
    seen = []

    def measure(outputs: list[np.ndarray], labels: np.ndarray) -> dict[str, object]:
        seen.append((outputs, labels))
        return {"mean": outputs[0][:, 0], "largest": outputs[1].max()}

    found = evaluate(program(9), SAMPLES, user_metric(measure, "mine", 2))
    assert len(seen) == len(LEVELS)
    for level, (row, (outputs, labels)) in enumerate(zip(found.levels, seen, strict=True)):
        np.testing.assert_array_equal(outputs[0], scores(DATA, level))
        assert outputs[1].shape == (COUNT, 5)
        np.testing.assert_array_equal(labels, LABELS)
        assert row.metrics == {"mean": pytest.approx(outputs[0][:, 0].mean()), "largest": outputs[1].max()}


def test_a_function_that_fails() -> None:
    def measure(outputs: list[np.ndarray], labels: np.ndarray) -> float:
        raise KeyError("nothing\nhere")

    with pytest.raises(MmacError, match=r"^metric mine: raised KeyError: 'nothing\\nhere'; set MMAC_TRACEBACK=1") as e:
        evaluate(program(), SAMPLES, user_metric(measure, "mine"), samples=2)
    assert e.value.exit_code == 1
    assert isinstance(e.value.__cause__, KeyError)


def several(*shapes: tuple[int, ...]) -> Program:
    """Inputs of these shapes, each of which is an output too."""
    builder = Builder(LEVELS)
    for number, shape in enumerate(shapes):
        x, y = builder.tensor(f"x{number}", shape), builder.tensor(f"y{number}", shape)
        builder.move(x, y, shape)
        builder.input(f"in{number}", "uint8", x.name)
        builder.output(f"out{number}", "uint8", y.name)
    return builder.build()


def test_programs_without_batches() -> None:
    different = several((2, 3, 4, 4), (1, 3, 4, 4))
    data = {f"in{i}": np.zeros((2, 4, 3, 4), np.uint8) for i in range(2)}
    metric = user_metric(lambda outputs, labels: 0.0, "mine", 2)
    expected = r"inputs of .*: in0 \[2, 4, 3, 4\], in1 \[1, 4, 3, 4\]; a first axis for samples, the same for all"
    with pytest.raises(UsageError, match=expected):
        evaluate(different, Samples(data, np.zeros(2)), metric)


def test_default_metric_needs_scores() -> None:
    data = Samples({"in0": np.zeros((2, 4, 3, 4), np.uint8)}, np.zeros(2, int))
    with pytest.raises(UsageError, match=r"output 'out0': shape \[1, 4, 3, 4\], not a score for each of several"):
        evaluate(several((1, 3, 4, 4)), data)
    assert classification(program().outputs, LABELS).names == ("top1", "top5")
