"""Every example of the README and of the pages under docs runs, and prints what they say."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_prints_what_it_says(page):
    text = page.read_text(encoding="utf-8")
    example = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert example.examples
    said = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=said.write)
    assert runner.summarize(verbose=False).failed == 0, said.getvalue()


def test_the_readme_prints_what_it_says():
    """A comment behind a print is its output; dots stand for any digits that follow."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    expected = re.findall(r"^print\(.*?\) +# (.*)$", code, flags=re.MULTILINE)
    assert expected
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "README.md", "exec"), {})
    lines = said.getvalue().splitlines()
    assert len(lines) == len(expected)
    for line, comment in zip(lines, expected, strict=True):
        if quoted := re.match(r"'(\w+)'", comment):
            assert line == quoted[1]
        elif number := re.match(r"([\d.]+?)\.\.\.", comment):
            assert line.startswith(number[1])
        elif value := re.search(r"1 - cosine: ([\d.e+-]+),", comment):
            assert float(f"{float(line):.1e}") == float(value[1])
        else:
            assert comment == "the certificate: both below 1e-12"
            assert max(map(float, line.split())) < 1e-12
