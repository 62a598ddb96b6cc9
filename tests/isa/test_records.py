import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from mmac.isa import records
from mmac.isa.errors import MalformedError
from mmac.isa.plan import Level


@dataclasses.dataclass(frozen=True)
class Inner:
    number: int
    ratio: float | None


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...]
    pair: tuple[str, int]
    sizes: dict[str, int]
    level: Level


VALUE = Outer("n", (Inner(1, None), Inner(-2, 0.1)), ("a", 3), {"b": 2, "a": 1}, Level(8, 2))
OBJECT = {
    "name": "n",
    "inner": [{"number": 1, "ratio": None}, {"number": -2, "ratio": 0.1}],
    "pair": ["a", 3],
    "sizes": {"b": 2, "a": 1},
    "level": "8x2",
}


def test_round_trip() -> None:
    assert records.to_json(VALUE) == OBJECT
    assert records.from_json(Outer, json.loads(records.dumps(OBJECT)), "o") == VALUE


def test_numpy_numbers_become_plain_ones() -> None:
    three: Any = np.int64(3)
    half: Any = np.float32(0.5)
    inner = records.to_json(Inner(three, half))
    assert records.dumps(inner) == '{"number":3,"ratio":0.5}'


def test_fields_can_be_kept_elsewhere() -> None:
    value = records.to_json(VALUE, skip=("name", "inner"))
    assert value.keys() == {"pair", "sizes", "level"}
    assert records.from_json(Outer, value, "o", name="n", inner=VALUE.inner) == VALUE


def test_a_whole_number_will_do_for_a_float() -> None:
    assert records.from_json(Inner, {"number": 0, "ratio": 2}, "i") == Inner(0, 2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "o.name: 1; a string"),
        ({"name": "\ud800"}, "o.name: .*surrogates"),
        ({"inner": {}}, r"o.inner: \{\}; a list"),
        ({"inner": [3]}, r"o.inner\[0\]: 3; an object"),
        ({"inner": [{"number": True, "ratio": None}]}, r"o.inner\[0\].number: True; an integer"),
        ({"inner": [{"number": 1.0, "ratio": None}]}, r"o.inner\[0\].number: 1.0; an integer"),
        ({"inner": [{"number": 2**63, "ratio": None}]}, r"o.inner\[0\].number: an integer of more than 64 bits"),
        ({"inner": [{"number": 0, "ratio": 10**400}]}, r"o.inner\[0\].ratio: .*; a number"),
        ({"inner": [{"number": 0}]}, r"o.inner\[0\]: field 'ratio' is missing"),
        ({"inner": [{"number": 0, "ratio": float("inf")}]}, r"o.inner\[0\].ratio: inf; a number"),
        ({"pair": ["a"]}, r"o.pair: .*; a list of 2 items"),
        ({"sizes": {"a": "b"}}, "o.sizes.a: 'b'; an integer"),
        ({"sizes": []}, r"o.sizes: \[\]; an object"),
        ({"level": "9"}, "o.level: '9'; ALPHAxBETA"),
        ({"level": "65x2"}, "o.level: '65x2'; alpha 1…64"),
        ({"more": 1}, "o: unknown field 'more'; name, inner, pair, sizes, level"),
    ],
)
def test_ill_typed_values_are_refused(change: Any, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        records.from_json(Outer, OBJECT | change, "o")


@pytest.mark.parametrize("text", ["", "{", "[NaN]", "[Infinity]", "[1E1072]", "[-1e999]", "[" * 100_000, "1" * 5000])
def test_text_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="not JSON"):
        records.loads(text, "o")
