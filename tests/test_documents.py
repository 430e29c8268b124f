"""Every example of the README and of the pages under docs runs and prints the output shown."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import shlex
from pathlib import Path

import matplotlib as mpl
import pytest
from attrs import fields_dict

from attsvm.cli import _parser
from attsvm.studies import Study, run, tabulate
from attsvm.studies.declarations import built_in
from attsvm.studies.reproduce.registry import named

ROOT = Path(__file__).parent.parent
PAGES = [
    page
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if page.parent.name not in ("gallery", "_templates")
]  # those of the gallery are generated from the templates
FIGURES = sorted((ROOT / "docs" / "figures").glob("*.py"))
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
DECLARATION = re.compile(r"^```toml\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
COMMAND = re.compile(
    r"^    (?:\S*/)?(attsvm (?:\S| (?! ))+)"  # a line of its own, up to its comment
    r"|`(?:[^\s`]*/)?(attsvm [^`]+)`",
    flags=re.MULTILINE,
)
BLOCK = re.compile(r"^```(?:pycon|python)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


def examples(page):
    """Return the code blocks of a page as one session, with the line numbers of the page."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * len(text.splitlines())
    for block in BLOCK.finditer(text):
        first = text[: block.start(1)].count("\n")
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


def has_examples(page):
    return ">>>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "page",
    [page for page in (ROOT / "README.md", *PAGES) if has_examples(page)],
    ids=lambda p: p.stem,
)
def test_a_page_prints_the_output_shown(page):
    if "import torch" in page.read_text(encoding="utf-8"):
        pytest.importorskip("torch", reason="torch is not installed (NEIGHBOURS)")
    example = doctest.DocTestParser().get_doctest(examples(page), {}, page.name, str(page), 0)
    assert len(example.examples) == sum(
        line.lstrip().startswith(">>>") for line in page.read_text(encoding="utf-8").splitlines()
    )
    output = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=output.write)
    assert runner.summarize(verbose=False).failed == 0, output.getvalue()


def test_tutorials_are_among_the_pages():
    tutorials = {page.stem for page in PAGES if has_examples(page)}
    assert tutorials >= {
        "token-selection",
        "local-convergence",
        "fast-rates",
        "optimisers",
        "next-tokens",
        "numerics",
        "your-model",
    }


@pytest.mark.slow
@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.stem)
def test_a_figure_is_used_and_draws(figure):
    texts = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert f".. plot:: {figure.name}" in texts
    with mpl.rc_context({"backend": "agg"}):
        from matplotlib import pyplot

        names = {"__name__": "__main__"}
        exec(compile(figure.read_text(encoding="utf-8"), str(figure), "exec"), names)
        axes = names["figure"].axes
        assert axes
        assert all(axis.has_data() or axis.patches or axis.texts for axis in axes)
        pyplot.close("all")


def test_the_readme_prints_the_output_shown():
    """Comments after prints are their output; dots stand for any further digits."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = [block for block in BLOCK.findall(text) if ">>>" not in block]
    expected = re.findall(r"^print\(.*?\) +# (.*)$", code, flags=re.MULTILINE)
    assert expected
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, "README.md", "exec"), {})
    lines = output.getvalue().splitlines()
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


def matches(pattern):
    """Return the matches of a pattern in every text, each with the name of its page."""
    return [
        pytest.param("".join(filter(None, match.groups())), id=f"{page.stem}-{k}")
        for page in TEXTS
        for k, match in enumerate(pattern.finditer(page.read_text(encoding="utf-8")))
    ]


@pytest.mark.parametrize("declaration", matches(DECLARATION))
def test_a_declaration_is_one_of_a_study_that_runs(declaration, tmp_path):
    (tmp_path / "shown.toml").write_text(declaration, encoding="utf-8")
    study = Study.load(tmp_path / "shown.toml", {"problems": 2, "steps": 10})
    results = run(study, tmp_path / "out", progress=False)
    assert results.finished.all()
    assert len(tabulate(study, results).rows) == len(study.cells)


@pytest.mark.parametrize("command", matches(COMMAND))
def test_a_command_is_one_that_the_parser_takes(command):
    words = shlex.split(command.partition(" > ")[0])[1:]
    if words == ["--help"]:
        return
    arguments = _parser().parse_args(words)
    if words[0] == "study":
        assert Path(arguments.study).suffix in (".toml", ".npz") or arguments.study in built_in()
        assert {field for field, *_ in arguments.set or ()} <= fields_dict(Study).keys()
    elif words[0] == "reproduce" and arguments.name is not None:
        assert named(arguments.name)


def test_declarations_and_commands_are_found():
    assert [match.id for match in matches(DECLARATION)] == ["large-studies-0", "optimisers-0"]
    commands = {match.values[0] for match in matches(COMMAND)}
    assert commands >= {
        "attsvm study overparam --print > mine.toml",
        "attsvm report out/NAME",
        "attsvm study FILE.toml --scheduler tcp://host:8786",
        "attsvm study overparam-digits",
        "attsvm reproduce p3-rules",
    }


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_links_to_files_lead_somewhere(page):
    """Pages that are generated are checked by the build (test_docs_build)."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" in target or target.startswith("gallery/"):
            continue
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [*TEXTS, ROOT / "bench" / "README.md"], ids=lambda page: page.stem)
def test_source_files_that_are_named_exist(page):
    named_files = re.findall(
        r"`([\w./]+\.(?:py|pyi|hpp|cpp|toml|c))`", page.read_text(encoding="utf-8")
    )
    sources = [
        file.relative_to(ROOT).as_posix()
        for folder in ("python", "cpp", "tests", "bench", "docs")
        for file in (ROOT / folder).rglob("*.*")
    ] + ["pyproject.toml"]
    for name in named_files:
        assert any(f"/{source}".endswith(f"/{name}") for source in sources), name


def test_every_page_is_in_a_table_of_contents():
    docs = ROOT / "docs"
    listed = {"index"}
    for page in PAGES:
        for block in re.findall(
            r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE
        ):
            entries = [line for line in block.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / entry).relative_to(docs).as_posix() for entry in entries}
    pages = {page.relative_to(docs).with_suffix("").as_posix() for page in PAGES}
    assert pages <= listed
    assert listed - pages == {"gallery/index"}  # generated
