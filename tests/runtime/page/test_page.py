"""The page as a document: it has the program's numbers, needs nothing from outside, and trusts no name."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from mmac.isa.errors import UsageError
from mmac.isa.program import Program
from mmac.runtime import estimate
from mmac.runtime.page import render_page, write_page
from mmac.runtime.targets import CONSTANT_SETS
from tests.runtime.page.pages import HOSTILE, Outline, bound, choices, contents

NAMES = ["tradeoff", "roofline", "layers", "occupancy", "network"]


@pytest.fixture(scope="module")
def html(program: Program) -> str:
    return render_page(program)


def own(html: str) -> str:
    """The page without plotly.js."""
    return re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)


def test_figures_are_valid_for_every_choice(html: str) -> None:
    page = contents(html)
    assert [figure["name"] for figure in page["figures"]] == NAMES
    combinations = list(choices(html))
    assert len(combinations) == 8 * 2 * 4
    for choice in combinations[::7]:
        for figure in page["figures"]:
            go.Figure(bound(page, figure, choice))  # refuses what plotly does not know


def test_every_choice_is_bound_to_values_of_the_right_length(html: str) -> None:
    page = contents(html)
    for choice in choices(html):
        for figure in page["figures"]:
            for trace in bound(page, figure, choice)["data"]:
                if trace.get("visible", True):
                    lengths = {len(trace[key]) for key in ("x", "y", "text", "customdata") if key in trace}
                    assert len(lengths) == 1 or trace["type"] == "heatmap", trace


def test_layers_show_the_costs_of_the_program(program: Program, html: str) -> None:
    page = contents(html)
    figure = page["figures"][NAMES.index("layers")]
    for constants in CONSTANT_SETS:
        report = estimate(program, constants=constants)
        layers = [layer for layer in report.layers if layer.name]
        for level in (0, 7):
            drawn = bound(page, figure, {"level": str(level), "constants": constants})
            bars = {trace["name"]: trace["x"] for trace in drawn["data"]}
            assert bars["latency"] == pytest.approx([layer.latency_ms[level] for layer in layers], rel=1e-5)
            assert bars["DRAM traffic bytes"] == [layer.dram_bytes[level] for layer in layers]
            assert bars["utilization"] == pytest.approx([100 * layer.utilization[level] for layer in layers], rel=1e-5)
            parts = [trace["x"] for trace in drawn["data"] if trace["xaxis"] == "x2"]
            stacks = [sum(column) for column in zip(*parts, strict=True)]
            assert stacks == pytest.approx([layer.energy_mj[level] for layer in layers], rel=1e-4)


def test_tables_have_levels_and_resources(program: Program, html: str) -> None:
    texts = Outline(own(html)).texts
    for row in estimate(program).levels:
        for cell in (row.level, f"{row.cycles:,}", f"{row.latency_ms:.4f}", f"{row.energy_mj:.4f}",
                     f"{row.dram_bytes:,}", f"{row.weight_bytes:,}", f"{row.utilization:.1%}"):  # fmt: skip
            assert cell in texts
    assert {"XC7VX485T", "LUT", "FF", "BRAM36", "DSP", "303,600"} <= set(texts)
    assert "host ms" not in texts
    assert "SQNR dB" not in texts


def test_the_quality_of_levels_is_shown_if_it_is_known(program: Program) -> None:
    predictions = tuple(dataclasses.replace(each, sqnr_db=n + 0.25) for n, each in enumerate(program.predictions))
    texts = Outline(own(render_page(dataclasses.replace(program, predictions=predictions)))).texts
    assert {"SQNR dB", "0.25", "7.25"} <= set(texts)


def test_measured_time_of_the_host_is_shown(program: Program) -> None:
    times = [0.125 + number for number in range(8)]
    texts = Outline(own(render_page(program, host_ms=times))).texts
    assert {"host ms", "0.125", "7.125"} <= set(texts)
    assert "–" not in texts


def test_levels_whose_host_time_is_unknown_have_none(program: Program) -> None:
    texts = Outline(own(render_page(program, host_ms=[0.0] * 7 + [0.5]))).texts
    assert texts.count("–") == 7
    assert "0.000" not in texts


def test_host_segments_are_said_to_be_left_out(program: Program, hosted: Program) -> None:
    left_out = "Latency and energy leave out 1 host segment."
    assert left_out in Outline(own(render_page(hosted))).texts
    assert left_out not in Outline(own(render_page(program))).texts


def test_sizes_and_traffic_have_names_of_their_own(program: Program) -> None:
    texts = Outline(own(render_page(program))).texts
    assert {"DRAM traffic bytes", "DRAM size bytes", "buffer traffic bytes"} <= set(texts)
    assert "DRAM bytes" not in texts
    window = program.buffer[1]
    assert texts[texts.index("DRAM size bytes") + 1] == f"{program.dram_bytes - window:,}"
    assert texts[texts.index("buffer size bytes") + 1] == f"{window:,} of 1,835,008"


def test_a_note_is_not_called_note_twice(program: Program) -> None:
    texts = Outline(own(render_page(program))).texts
    assert {"notes", "note: calibration"} <= set(texts)


def test_small_numbers_have_no_prefix(html: str) -> None:
    """Axes and colour bars whose titles have a unit: 250µ under "latency ms" would be read as microseconds."""
    drawn = {figure["name"]: figure for figure in contents(html)["figures"]}
    scales = [drawn["layers"]["layout"][name] for name in ("xaxis", "xaxis2")]
    scales += [drawn["tradeoff"]["layout"][name] for name in ("yaxis", "yaxis2")]
    scales.append(drawn["network"]["data"][1]["marker"]["colorbar"])
    assert [scale["exponentformat"] for scale in scales] == ["none"] * 5


def test_other_cells_need_more_than_the_part_has(program: Program) -> None:
    html = render_page(program, mac="pmac")
    assert '<div class="bar over">' in html
    assert "pmac cells" in html


def test_the_chosen_level_and_constants_come_first(program: Program) -> None:
    html = render_page(program, constants="paper", level=2)
    assert html == render_page(program, constants="paper", level="12x2")
    assert '<option value="2" selected>12x2</option>' in html
    assert html.count(" selected>") == 1
    assert re.findall(r'<select name="constants"[^>]*><option value="(\w+)"', html) == ["paper"]
    assert '<option value="7" selected>20x3</option>' in render_page(program)


def test_nothing_is_fetched_and_no_other_script_runs(html: str) -> None:
    outline = Outline(html)
    links = [value for _, attributes in outline.elements for key, value in attributes.items() if key in ("src", "href")]
    assert links
    assert all(link and link.startswith(("#", "data:,")) for link in links)
    (policy,) = (a["content"] for _, a in outline.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert policy.split("; ") == [
        "default-src 'none'",
        f"script-src {allowed}",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
    ]


def test_no_figure_can_be_uploaded(html: str) -> None:
    assert 'showSendToCloud: false,\n    plotlyServerURL: "",' in html


def test_names_are_text(program: Program, hostile: Program) -> None:
    html = render_page(hostile)
    clean, outline = Outline(render_page(program)), Outline(html)
    assert len(outline.scripts) == len(clean.scripts) == 3
    added = len(hostile.notes) - len(program.notes)
    for tag in {name for name, _ in outline.elements} - {"tr", "th", "td"}:
        assert sum(name == tag for name, _ in outline.elements) == sum(name == tag for name, _ in clean.elements)
    assert sum(name == "tr" for name, _ in outline.elements) == sum(name == "tr" for name, _ in clean.elements) + added
    shown = set(outline.texts)
    assert {HOSTILE[0], f"{HOSTILE[0]} on vc707", f"note: {HOSTILE[1]}", HOSTILE[2]} <= shown
    assert not re.search(r"[<>&]", re.findall(r'id="page">(.*?)</script>', html, re.DOTALL)[0])


def test_labels_of_figures_have_no_markup_of_names(hostile: Program) -> None:
    html = render_page(hostile)
    page = contents(html)
    drawn = [bound(page, figure, next(choices(html))) for figure in page["figures"]]
    names = {"&lt;script&gt;alert(1)&lt;/script&gt;", "&amp;lt;i&amp;gt; &amp;amp; &amp;"}
    layers, network = drawn[NAMES.index("layers")], drawn[NAMES.index("network")]
    assert names <= set(layers["layout"]["yaxis"]["ticktext"])
    assert names <= set(network["data"][1]["text"])
    assert names <= {row[0] for row in network["data"][1]["customdata"]}
    points = [row for trace in drawn[NAMES.index("roofline")]["data"] for row in trace.get("customdata", ())]
    assert any("&lt;" in row[0] for row in points)
    texts = [*layers["layout"]["yaxis"]["ticktext"], *network["data"][1]["text"], *(row[0] for row in points)]
    assert not any("<" in text for text in texts)


def test_the_same_program_gives_the_same_bytes(program: Program, tmp_path: Path) -> None:
    write_page(program, tmp_path / "a.html")
    write_page(program, str(tmp_path / "b.html"))
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.html").read_text("utf-8") == render_page(program)


def test_size(html: str) -> None:
    assert len(own(html)) < 200_000
    assert len(html) < 6_000_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 8}, "level '8': not in this program; 0 (8x2)"),
        ({"level": "9x2"}, "level '9x2': not in this program; 0 (8x2)"),
        ({"level": -1}, "level '-1': not a level"),
        ({"mac": "xmac"}, "cell 'xmac': not in target vc707"),
        ({"constants": "wishful"}, "constants 'wishful': no such set; first_principles, paper"),
        ({"target": "vc708"}, "target 'vc708': no such target"),
    ],
)
def test_what_does_not_exist_is_refused(
    program: Program, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        write_page(program, tmp_path / "page.html", **options)
    assert not list(tmp_path.iterdir())


def test_without_plotly_the_error_says_what_to_install(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(UsageError) as caught:
        write_page(program, tmp_path / "page.html")
    assert str(caught.value) == ("report: reports are drawn by plotly, which is not installed; pip install plotly")
    assert not list(tmp_path.iterdir())
