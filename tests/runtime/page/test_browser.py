"""The page in a browser: its script runs without complaint, and names that want to do something are only shown."""

from __future__ import annotations

import html as escapes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mmac.isa.program import Program
from mmac.runtime.page import render_page
from tests.runtime.page.pages import HOSTILE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--window-size=1400,4000",
    "--virtual-time-budget=8000",
    "--dump-dom",
)

HOVER = """
const choose = (name, value) => {
  const select = document.querySelector(`select[name=${name}]`);
  select.value = value;
  select.dispatchEvent(new Event("change"));
};
const seen = document.body.appendChild(document.createElementNS("http://www.w3.org/2000/svg", "svg"));
seen.id = "seen";
const look = (figure, ...where) => {
  Plotly.Fx.hover(figure, ...where);
  const label = () => document.querySelector(`#${figure} .hoverlayer`).cloneNode(true);
  setTimeout(() => seen.appendChild(label()), 150);
};
choose("level", "0");
choose("constants", "paper");
choose("colour", "dram_bytes");
for (let n = 0; n < 9; n++) setTimeout(look, 300 * (n + 1), "figure-network", [{curveNumber: 1, pointNumber: n}]);
setTimeout(look, 3300, "figure-layers", {yval: 0, xval: 0}, ["xy"]);
"""
"""Changes every choice, then hovers over node after node of the network and over the first layer's row."""


def dom(path: Path) -> tuple[str, list[str]]:
    """The document after its scripts have run, and what they had to say on the console."""
    assert CHROMIUM
    line = [CHROMIUM, *OPTIONS, f"--user-data-dir={path.parent / 'profile'}", f"file://{path}"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=240)
    return done.stdout, [text for text in done.stderr.splitlines() if "CONSOLE" in text]


def labels(document: str) -> set[str]:
    """Texts of plotly's labels, as a reader sees them: lines apart, tags of style gone."""
    found = re.findall(r"<text[^>]*>(.*?)</text>", document, re.DOTALL)
    lines = [line for text in found for line in re.split(r'<tspan class="line"[^>]*>', text)]
    return {escapes.unescape(re.sub(r"<[^>]*>", "", line)) for line in lines}


def test_hostile_names_are_shown_and_nothing_else_happens(hostile: Program, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(render_page(hostile), "utf-8")
    document, console = dom(page)
    assert console == []
    assert f"<title>{escapes.escape(HOSTILE[0], quote=False)} on vc707</title>" in document
    assert len(re.findall(r'<div[^>]*class="[^"]*js-plotly-plot', document)) == 5
    assert set(HOSTILE) <= labels(document)
    assert "γ 60:" in document


def test_choices_and_hovering(hostile: Program, tmp_path: Path) -> None:
    # the page's own policy would not let the test's script run
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", render_page(hostile))
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", f"<script>setTimeout(() => {{{HOVER}}}, 1000)</script></body>"), "utf-8")
    document, console = dom(page)
    assert console == []
    assert "γ 16:" in document
    assert '<tr data-level="0" class="chosen">' in document
    (seen,) = re.findall(r'<svg id="seen">(.*?)</svg>', document, re.DOTALL)
    assert set(HOSTILE) <= labels(seen)
    assert any(re.fullmatch(r"weight terms [\d.e-]+ mJ", text) for text in labels(seen))
    assert f"<title>{escapes.escape(HOSTILE[0], quote=False)} on vc707</title>" in document
