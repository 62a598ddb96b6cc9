"""A comparison as one HTML page; see `docs/accuracy.md`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from mmac.compiler.comparison.errors import VARIANTS, Errors
from mmac.compiler.comparison.result import KINDS, Comparison, LayerErrors, LevelErrors
from mmac.isa.files import write_file
from mmac.runtime.page.document import page
from mmac.runtime.page.figure import Figure, Tables, axis, basic_layout, legend_below, rounded, select
from mmac.runtime.page.rows import MARGIN, MIN_WIDTH, layer_axis, legend_above, row_height
from mmac.runtime.page.text import label, markup

COLOURS = dict(zip(VARIANTS, ("#6b7d92", "#1f5fa8", "#22a7a7", "#e08a00"), strict=True))
MEASURES = {"local": "each layer on its own", "accumulated": "up to the layer"}
WRONG = "rgba(178, 58, 72, 0.25)"
"""Behind the layer that goes wrong first."""

INTRO = (
    "Signal-to-quantization-noise ratio (SQNR) against onnxruntime, and what the noise comes from: 8 bits with nothing "
    "dropped (calibration), dropped terms of weights, dropped terms of data, and biases and scales per level "
    "(constants), which may take noise away."
)
LEVELS_NOTE = "At the outputs of the model, if one more part of what the program does is added at a time."
LAYERS_NOTE = (
    "In program order. Left: SQNR at each level; a gap is a layer without any error. Right: noise at the chosen level, "
    "as a share of the power of the layer's result. On its own: the layer on the program's data, against the model's "
    "layer on the same data. The layer that goes wrong first is marked."
)


def write_page(found: Comparison, path: str | os.PathLike[str]) -> None:
    """Write a comparison to an HTML file of about 5 MB that can be opened without a network.

    Raises:
        UsageError: plotly is not installed, or the file cannot be written.
        ResourceError: the disk is full.
    """
    write_file(path, render_page(found))


def render_page(found: Comparison) -> str:
    """The HTML of `write_page`, with its errors."""
    names = [str(level.level) for level in found.levels]
    outputs = [output.output for output in found.levels[0].outputs]
    choices = [select("level", {str(n): name for n, name in enumerate(names)}), select("measure", MEASURES)]
    if len(outputs) > 1:
        choices.append(select("output", {str(n): name for n, name in enumerate(outputs)}))
    return page(
        found.model,
        f"{found.model}: program beside model, {found.samples} samples",
        f"<p>{INTRO}</p>",
        _levels_table(found),
        choices,
        [_levels_figure(found, names), _layers_figure(found, names)],
        {f"headline/{number}": _wrong_text(level) for number, level in enumerate(found.levels)},
        "headline/{level}",
    )


def _wrong_text(level: LevelErrors) -> str:
    first = level.first_wrong
    if first is None or first.finding is None:
        return "no layer goes wrong"
    return f"{first.layer}: {first.finding.text} ({KINDS[first.finding.kind]})"


def _levels_table(found: Comparison) -> str:
    """A row per level and output; a click chooses the level."""
    head = map(_words, ["level", "output", *VARIANTS, "cosine", "largest error", "layer that goes wrong first"])
    rows: list[str] = []
    for number, level in enumerate(found.levels):
        first = level.first_wrong
        for output in level.outputs:
            cells = [str(level.level), output.output, *_row(output.errors), "none" if first is None else first.layer]
            rows.append(f'<tr data-level="{number}">{_cells("td", cells)}</tr>')
    table = f'<table class="numbers levels"><tr>{_cells("th", head)}</tr>\n{"".join(rows)}</table>'
    return f'<div class="scroll">{table}</div>'


def _row(errors: Errors) -> list[str]:
    stages = ["exact" if value is None else f"{value:.1f}" for value in errors.stages_db.values()]
    return [*stages, f"{errors.cosine:.4f}", f"{errors.max_abs_error:.3g}"]


def _cells(tag: str, texts: Iterable[str]) -> str:
    return "".join(f"<{tag}>{markup(text)}</{tag}>" for text in texts)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _levels_figure(found: Comparison, names: Sequence[str]) -> Figure:
    """A curve for each variant."""
    several = len(found.levels[0].outputs) > 1
    tables: Tables = {}
    for number in range(len(found.levels[0].outputs)):
        for name in VARIANTS:
            errors = [level.outputs[number].errors for level in found.levels]
            tables[f"output/{number}/{name}"] = _rounded(each.stages_db[name] for each in errors)
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [label(text) for text in names],
            "name": f"{'+ ' * (number > 0)}{_words(name)}",
            "line": {"color": COLOURS[name], "width": 3 if name == VARIANTS[-1] else 1.5},
            "hovertemplate": "%{x}: %{y:.2f} dB",
        }
        for number, name in enumerate(VARIANTS)
    ]
    chosen = "{output}" if several else "0"
    bindings = {f"data.{number}.y": f"output/{chosen}/{name}" for number, name in enumerate(VARIANTS)}
    drawn = basic_layout(
        340, hovermode="x unified", xaxis=axis(type="category"), yaxis=axis("SQNR dB"), legend=legend_below()
    )
    return Figure("outputs", "Outputs", LEVELS_NOTE, data, drawn, tables, bindings)


def _layers_figure(found: Comparison, names: Sequence[str]) -> Figure:
    """A row per layer: a curve for each level, and the parts of the noise at the chosen one."""
    layers = found.levels[0].layers
    rows = list(range(len(layers)))
    tables: Tables = {}
    data: list[dict[str, Any]] = []
    bindings: dict[str, str] = {}
    for number, level in enumerate(found.levels):
        tables[f"mark/{number}"] = _marks(level)
        for measure in MEASURES:
            errors: list[Errors] = [getattr(layer, measure) for layer in level.layers]
            tables[f"sqnr/{number}/{measure}"] = _rounded(each.sqnr_db for each in errors)
            for name in VARIANTS:
                tables[f"noise/{number}/{measure}/{name}"] = _rounded(100 * each.noise[name] for each in errors)
        bindings[f"data.{len(data)}.x"] = f"sqnr/{number}/{{measure}}"
        data.append(_curve(rows, names[number], number / max(len(names) - 1, 1)))
    for name in VARIANTS:
        bindings[f"data.{len(data)}.x"] = f"noise/{{level}}/{{measure}}/{name}"
        data.append(_bars(rows, name))
    bindings["layout.shapes"] = "mark/{level}"
    return Figure("layers", "Layers", LAYERS_NOTE, data, _layout(layers), tables, bindings, MIN_WIDTH)


def _marks(level: LevelErrors) -> list[dict[str, Any]]:
    """A band behind the layer that goes wrong first."""
    if (first := level.first_wrong) is None:
        return []
    row = level.layers.index(first)
    edges = {"y0": row - 0.5, "y1": row + 0.5, "yref": "y", "x0": 0, "x1": 1, "xref": "paper"}
    return [{"type": "rect", "layer": "below", "fillcolor": WRONG, "line": {"width": 0}, **edges}]


def _curve(rows: list[int], name: str, place: float) -> dict[str, Any]:
    """SQNR at a level; the higher the level (`place` 0…1), the darker."""
    shade = [round(180 - place * (180 - dark)) for dark in (31, 95, 168)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "y": rows,
        "xaxis": "x",
        "yaxis": "y",
        "name": label(name),
        "line": {"color": f"rgb({','.join(map(str, shade))})", "width": 1.5},
        "marker": {"size": 4},
        "hovertemplate": f"{label(name)} %{{x:.1f}} dB<extra></extra>",
    }


def _bars(rows: list[int], name: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "y": rows,
        "xaxis": "x2",
        "yaxis": "y",
        "name": _words(name),
        "marker": {"color": COLOURS[name]},
        "hovertemplate": f"{_words(name)} %{{x:.3~g}} %<extra></extra>",
    }


def _layout(layers: Sequence[LayerErrors]) -> dict[str, Any]:
    height = row_height(len(layers))
    top: dict[str, Any] = {"side": "top", "tickangle": 0}
    return basic_layout(
        height,
        margin=MARGIN,
        barmode="relative",
        bargap=0.25,
        hovermode="y unified",
        hoversubplots="axis",
        yaxis=layer_axis([layer.layer for layer in layers]),
        xaxis=axis("SQNR dB", domain=[0, 0.48], **top),
        xaxis2=axis("noise % of signal power", domain=[0.52, 1], **top),
        legend=legend_above(height),
    )


def _rounded(values: Iterable[float | None]) -> list[float | None]:
    return [None if value is None else rounded([value])[0] for value in values]
