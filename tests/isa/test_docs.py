import pathlib
import re
import subprocess
import sys

from mmac.isa import docs
from mmac.isa.spec import BY_OPCODE

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "isa.md"


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text("utf-8") == docs.page(), "run: python -m mmac.isa.docs > docs/isa.md"


def test_every_instruction_accounts_for_all_128_bits() -> None:
    sections = [section for section in docs.page().split("\n### ") if "| bits | field |" in section]
    assert len(sections) == len(BY_OPCODE)
    for section in sections:
        spans = re.findall(r"^\| (\d+)(?:…(\d+))? \|", section, re.MULTILINE)
        covered = [bit for high, low in spans for bit in range(int(low or high), int(high) + 1)]
        assert sorted(covered) == list(range(128)), section.split("\n")[0]


def test_every_instruction_and_meaning_is_there() -> None:
    page = docs.page()
    for cls in BY_OPCODE.values():
        assert f"\n### {cls.mnemonic}\n\n{cls.__doc__}\n" in page


def test_the_package_imports_fast() -> None:
    script = (
        "import sys, time; start = time.process_time(); import mmac.isa; "
        "print(time.process_time() - start, 'numpy' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, numpy = run.stdout.split()
    assert float(seconds) < 0.15
    assert numpy == "False"
