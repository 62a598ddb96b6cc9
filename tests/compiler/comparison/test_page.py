"""The page of a comparison: it says what was found, and names from models stay texts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from mmac.compiler.comparison import Comparison, Errors, Finding, LayerErrors, LevelErrors, OutputErrors
from mmac.compiler.comparison.errors import VARIANTS
from mmac.compiler.comparison.page import MEASURES, render_page, write_page
from mmac.isa.plan import parse_levels
from tests.runtime.page.pages import HOSTILE, Outline
from tests.runtime.page.test_browser import CHROMIUM, dom, labels


def errors(*stages: float | None) -> Errors:
    noise = [0.0 if db is None else 10 ** (-db / 10) for db in stages]
    parts = [b - a for a, b in zip([0.0, *noise], noise, strict=False)]
    return Errors(
        stages[-1], 0.5, 0.25, dict(zip(VARIANTS, stages, strict=True)), dict(zip(VARIANTS, parts, strict=True))
    )


LAYERS = (
    LayerErrors("a", "Conv", "a_q", "a", errors(30, 20, 19, 25), errors(31, 21, 20, 26), 0, 10, None),
    LayerErrors("b", "Add", "b_q", "b", errors(30, 20, 19, 25), errors(None, None, None, None), 0, 10, None),
    LayerErrors("c", "Conv", "c_q", "c", errors(9, 8, 7, 6), errors(5, 4, 3, 2), 3, 10, Finding("values", "3 of 10")),
)


def comparison(*names: str, outputs: int = 1) -> Comparison:
    layers = tuple(replace(layer, layer=name) for layer, name in zip(LAYERS, names or "abc", strict=True))
    ports = tuple(OutputErrors(f"y{number}", errors(30, 20, 15, None)) for number in range(outputs))
    low, high = parse_levels("8x2,full")
    whole = tuple(replace(layer, finding=None) for layer in layers)
    return Comparison(
        names[0] if names else "net", 2, (LevelErrors(low, ports, layers), LevelErrors(high, ports, whole))
    )


def contents(html: str) -> dict[str, Any]:
    script = next(s for s in Outline(html).scripts if s.startswith('{"headline"'))
    return json.loads(script)


def test_figures_show_every_layer_level_and_part():
    found = comparison()
    page = contents(render_page(found))
    tables = page["tables"]
    for number, level in enumerate(found.levels):
        for measure in MEASURES:
            expected = [getattr(layer, measure) for layer in level.layers]
            assert tables[f"sqnr/{number}/{measure}"] == [each.sqnr_db for each in expected]
            for part in VARIANTS:
                shares = [100 * each.noise[part] for each in expected]
                assert tables[f"noise/{number}/{measure}/{part}"] == pytest.approx(shares, rel=1e-5)
    assert tables["output/0/data_terms"] == [15, 15]
    assert tables["output/0/constants"] == [None, None]
    for figure in page["figures"]:
        for template in figure["bindings"].values():
            for level in "01":
                for measure in MEASURES:
                    assert template.format(level=level, measure=measure, output=0) in tables


def test_the_first_wrong_layer_is_marked():
    page = contents(render_page(comparison()))
    (mark,) = page["tables"]["mark/0"]
    assert (mark["y0"], mark["y1"]) == (1.5, 2.5)
    assert page["tables"]["mark/1"] == []
    assert page["tables"]["headline/0"].startswith("c: 3 of 10 (the program is damaged")
    assert page["tables"]["headline/1"] == "no layer goes wrong"


@pytest.mark.parametrize(("outputs", "choices"), [(1, ["level", "measure"]), (2, ["level", "measure", "output"])])
def test_choices(outputs, choices):
    outline = Outline(render_page(comparison(outputs=outputs)))
    assert [attributes["name"] for tag, attributes in outline.elements if tag == "select"] == choices
    rows = [attributes["data-level"] for tag, attributes in outline.elements if "data-level" in attributes]
    assert rows == ["0"] * outputs + ["1"] * outputs


def test_names_do_nothing():
    usual = Outline(render_page(comparison())).elements
    for start in range(0, len(HOSTILE), 3):
        html = render_page(comparison(*HOSTILE[start : start + 3]))
        assert [tag for tag, _ in Outline(html).elements] == [tag for tag, _ in usual]
        labels = contents(html)["figures"][1]["layout"]["yaxis"]["ticktext"]
        assert not any("<" in text for text in labels)


def test_the_page_is_the_same_every_time(tmp_path):
    write_page(comparison(), tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text("utf-8") == render_page(comparison())


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_in_a_browser(tmp_path):
    names = HOSTILE[:3]
    page = tmp_path / "page.html"
    page.write_text(render_page(comparison(*names, outputs=2)), "utf-8")
    document, console = dom(page)
    assert console == []
    assert set(names) <= labels(document)
    assert len(re.findall(r'<div[^>]*class="[^"]*js-plotly-plot', document)) == 2
    assert "rgb(178, 58, 72)" in document  # the mark
