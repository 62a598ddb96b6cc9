"""The tables at the top of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from mmac.isa.spec import WORD_BYTES
from mmac.runtime.page.subject import Subject
from mmac.runtime.page.text import markup
from mmac.runtime.targets import Resources

RESOURCES = {"lut": "LUT", "ff": "FF", "bram36": "BRAM36", "dsp": "DSP"}


def tables(subject: Subject) -> str:
    """All of them, as HTML."""
    return f"""{levels_table(subject)}
<div class="columns">
<div><h3>Program</h3>{_facts(subject)}</div>
<div><h3>{markup(subject.target.part.name)}</h3>{part_table(subject)}</div>
</div>"""


def levels_table(subject: Subject) -> str:
    """What one inference costs at each level; a click on a row chooses the level."""
    first, second = subject.reports
    hosted = any(level.host_ms for level in subject.report.levels)
    rated = any(level.sqnr_db is not None for level in subject.report.levels)
    head = ["level", "α", "β", "γ", "cycles", "latency ms", f"energy mJ ({first})", f"energy mJ ({second})",
            "DRAM traffic bytes", "buffer traffic bytes", "weight bytes", "weights from DRAM bytes", "utilization",
            *["SQNR dB"] * rated, *["host ms"] * hosted]  # fmt: skip
    rows = []
    for number, (level, other) in enumerate(zip(subject.report.levels, subject.reports[second].levels, strict=True)):
        cells = [
            level.level,
            str(level.alpha),
            str(level.beta),
            str(level.gamma),
            f"{level.cycles:,}",
            f"{level.latency_ms:.4f}",
            f"{level.energy_mj:.4f}",
            f"{other.energy_mj:.4f}",
            f"{level.dram_bytes:,}",
            f"{level.buffer_bytes:,}",
            f"{level.weight_bytes:,}",
            f"{level.weights_from_dram_bytes:,}",
            f"{level.utilization:.1%}",
            *([f"{level.sqnr_db:.2f}"] if level.sqnr_db is not None else []),
        ] + [f"{level.host_ms:.3f}" if level.host_ms else "–"] * hosted
        rows.append(f'<tr data-level="{number}">{_cells("td", cells)}</tr>')
    table = f'<table class="numbers levels"><tr>{_cells("th", head)}</tr>\n{"".join(rows)}</table>'
    return f'<div class="scroll">{table}</div>'


def host_note(subject: Subject) -> str:
    """What the figures leave out, as HTML."""
    count = len(subject.program.host)
    return f"<p>Latency and energy leave out {count} host segment{'s' * (count > 1)}.</p>" if count else ""


def part_table(subject: Subject) -> str:
    """What the design needs of the device."""
    used, part = subject.target.used(subject.report.mac), subject.target.part
    rows = []
    for field in fields(Resources):
        needed, available = getattr(used, field.name), getattr(part, field.name)
        share = needed / available if available else float(needed > 0)
        bar = f'<div class="bar{" over" * (share > 1)}"><div style="width:{min(share, 1):.1%}"></div></div>'
        cells = [RESOURCES.get(field.name, field.name), f"{needed:,}", f"{available:,}", f"{share:.1%}"]
        rows.append(f"<tr>{_cells('td', cells)}<td>{bar}</td></tr>")
    head = _cells("th", ["", "needed", "available", "share", ""])
    return f'<table class="numbers"><tr>{head}</tr>{"".join(rows)}</table>'


def _facts(subject: Subject) -> str:
    program, target, report = subject.program, subject.target, subject.report
    array, window = target.array, program.buffer[1]
    facts = {
        "model": program.name,
        "compiled for": program.target,
        "target": f"{target.name}, {target.clock.mhz:g} MHz",
        "array": f"{array.blocks} blocks of {array.rows} × {array.columns} {report.mac} cells",
        "multipliers": f"{target.multipliers.units} units of {target.multipliers.taps}"
        if target.multipliers
        else "none",
        "constants": f"{report.constants} (chosen), " + ", ".join(list(subject.reports)[1:]),
        "layers": str(len(subject.layers)),
        "MACs": f"{sum(layer.macs for layer in subject.layers):,}",
        "code": f"{len(program.code):,} instructions, {len(program.code) * WORD_BYTES:,} bytes",
        "image": f"{program.image.size:,} bytes of weights and constants",
        "DRAM size bytes": f"{program.dram_bytes - window:,}",
        "buffer size bytes": f"{window:,} of {target.buffer.size_bytes:,}",
        "host segments": str(len(program.host)),
    }
    notes = {key if key == "notes" else f"note: {key}": value for key, value in program.notes.items()}
    rows = [*facts.items(), *notes.items()]
    return (
        f"<table>{''.join(f'<tr><th>{markup(key)}</th><td>{markup(value)}</td></tr>' for key, value in rows)}</table>"
    )


def _cells(tag: str, texts: Sequence[str]) -> str:
    return "".join(f"<{tag}>{markup(text)}</{tag}>" for text in texts)
