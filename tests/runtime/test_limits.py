"""The file of changing limits, the choices under it, and the inputs of the runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.isa.errors import MalformedError, UsageError
from mmac.isa.plan import PAPER_LEVELS
from mmac.isa.program import Port, Prediction
from mmac.runtime.governor import Governor, Policy
from mmac.runtime.limits import COLUMNS, choose_levels, read_limits, samples_of

GOVERNOR = Governor(PAPER_LEVELS[:3], (Prediction(1, 10, 4.5), Prediction(2, 20, 9.25), Prediction(4, 40, 12)))


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "limits.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ------------------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    "content",
    [
        "max_latency_ms,max_energy_mj,min_sqnr_db\n2.5,,\n,1e1,-3\n,,\n",
        "\ufeff# by hand\r\n\r\nmin_sqnr_db , max_latency_ms,max_energy_mj\r\n,2.5,\r\n  # and\r\n-3,,10\r\n,,\r\n\r\n",
        '"max_latency_ms","max_energy_mj","min_sqnr_db"\n"2.5","",""\n"",10.0,"-3"\n,,',
    ],
)
def test_files(tmp_path: Path, content: str) -> None:
    found = [entry.policy for entry in read_limits(write(tmp_path, content))]
    assert found == [Policy(max_latency_ms=2.5), Policy(max_energy_mj=10, min_sqnr_db=-3), Policy()]


def test_some_columns_and_where_each_run_is_written(tmp_path: Path) -> None:
    path = write(tmp_path, "max_energy_mj\n# comment\n3\n\n0\n")
    found = read_limits(path)
    assert [entry.policy for entry in found] == [Policy(max_energy_mj=3), Policy(max_energy_mj=0)]
    assert [entry.where for entry in found] == [f"{path}:3", f"{path}:5"]


@given(
    st.lists(st.tuples(*[st.none() | st.floats(0, 1e9)] * 2, st.none() | st.floats(-300, 300)), min_size=1, max_size=9)
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float | None, ...]]
) -> None:
    lines = [",".join("" if value is None else repr(value) for value in row) for row in rows]
    path = write(tmp_path_factory.mktemp("limits"), "\n".join([",".join(COLUMNS), *lines]))
    assert [entry.policy for entry in read_limits(path)] == [Policy(*row) for row in rows]


HEADER = "CSV with a first line of max_latency_ms, max_energy_mj, min_sqnr_db or some of them"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", f": empty; {HEADER}"),
        ("# nothing\n\n", f": empty; {HEADER}"),
        ("max_latency_ms\n", ": no runs; at least one line of limits after the first"),
        ("max_latency\n1\n", f":1: no column can be called 'max_latency'; {HEADER}"),
        ("2.5,,\n", f":1: no column can be called '2.5'; {HEADER}"),
        (
            "max_latency_ms;max_energy_mj\n1;2\n",
            f":1: no column can be called 'max_latency_ms;max_energy_mj'; {HEADER}",
        ),
        ("min_sqnr_db,\n1,\n", f":1: no column can be called ''; {HEADER}"),
        ("min_sqnr_db,min_sqnr_db\n1,1\n", ":1: column min_sqnr_db is there twice; each column once"),
        ("max_latency_ms\n2\nfast\n", ":3: max_latency_ms: 'fast'; a number, or nothing for no limit"),
        ("max_latency_ms\n1 ms\n", ":2: max_latency_ms: '1 ms'; a number, or nothing for no limit"),
        ("max_latency_ms\n\n-1\n", ":3: max_latency_ms: -1.0; a finite number, 0 or more"),
        ("max_energy_mj\nnan\n", ":2: max_energy_mj: nan; a finite number, 0 or more"),
        ("min_sqnr_db\ninf\n", ":2: min_sqnr_db: inf; a finite number"),
        ("max_latency_ms,min_sqnr_db\n1,5\n1,5,3\n", ":3: 3 cells; 2, as the first line has; an empty one is none"),
        ("max_latency_ms,min_sqnr_db\n1\n", ":2: 1 cells; 2, as the first line has; an empty one is none"),
        ('max_latency_ms\n"1\n', f":2: not CSV (unexpected end of data); {HEADER}"),
        (b"max_latency_ms\n\xff\xfe\n", f": not text in UTF-8; {HEADER}"),
        (b"PK\x03\x04\x00\x00", f":1: no column can be called 'PK\\x03\\x04\\x00\\x00'; {HEADER}"),
        ("x" * 999, f":1: no column can be called '{'x' * 59}'…; {HEADER}"),
    ],
)
def test_bad_files(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(MalformedError) as info:
        read_limits(path)
    assert str(info.value) == f"{path}{said}"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape(f"none.csv: cannot be read (No such file or directory); {HEADER}")):
        read_limits(tmp_path / "none.csv")
    with pytest.raises(UsageError, match=r"cannot be read \(Is a directory\)"):
        read_limits(tmp_path)


# ---------------------------------------------------------------------------------------------------------- the choices


def test_choices_and_switches(tmp_path: Path) -> None:
    path = write(tmp_path, "max_latency_ms,min_sqnr_db\n2,\n2.5,\n,\n,9\n1,\n")
    choices = choose_levels(GOVERNOR, read_limits(path))
    assert [choice.level for choice in choices] == [1, 1, 2, 1, 0]
    assert [choice.switched for choice in choices] == [False, False, True, True, True]
    assert [choice.prediction for choice in choices] == [GOVERNOR.predictions[choice.level] for choice in choices]
    assert choices[3].policy == Policy(min_sqnr_db=9)
    assert choose_levels(GOVERNOR, []) == []


def test_an_impossible_line_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "max_latency_ms\n2\n0.5\n")
    with pytest.raises(UsageError) as info:
        choose_levels(GOVERNOR, read_limits(path))
    assert str(info.value) == (
        f"{path}:3: limit of 0.5 ms: no level of the program keeps to it; the closest is 8x2 with 1 ms and 10 mJ, "
        "at 4.50 dB; allow that much, or compile with lower --levels"
    )


# ----------------------------------------------------------------------------------------------------------- the inputs

PORTS = (Port("x", "float32", (2, 3), ("x_q",)), Port("n", "int64", (), ("n",)))


def test_samples() -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    first, second = samples_of(PORTS[:1], {"x": x})
    np.testing.assert_array_equal(first["x"], x[:2])
    np.testing.assert_array_equal(second["x"], x[2:])
    (only,) = samples_of(PORTS, {"x": x[:2], "n": np.array(5)})
    assert only["x"].shape == (2, 3)
    assert only["n"].item() == 5
    assert samples_of((), {}) == [{}]


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((3, 3), r"input 'x': shape \[3, 3\]; \[2, 3\]"),
        ((0, 3), r"input 'x': shape \[0, 3\]; \[2, 3\]"),
        ((4, 4), r"input 'x': shape \[4, 4\]; \[2, 3\]"),
        ((), r"input 'x': shape \[\]; \[2, 3\]"),
    ],
)
def test_samples_of_another_shape(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(MalformedError, match=said):
        samples_of(PORTS[:1], {"x": np.zeros(shape, np.float32)})


def test_wrong_samples() -> None:
    x = np.zeros((4, 3), np.float32)
    with pytest.raises(MalformedError, match="inputs: different numbers of them: 2 of 'x', 1 of 'n'; as many of each"):
        samples_of(PORTS, {"x": x, "n": np.array(5)})
    with pytest.raises(UsageError, match="input 'z': no such input"):
        samples_of(PORTS[:1], {"x": x[:2], "z": x[:2]})
    with pytest.raises(UsageError, match="input 'x': missing"):
        samples_of(PORTS[:1], {})
    with pytest.raises(MalformedError, match="input 'x': dtype float64; float32"):
        samples_of(PORTS[:1], {"x": x.astype(float)})
