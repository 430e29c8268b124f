"""The rows of the benchmark name contenders and entries that exist, and its page shows them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
from bench.contenders import CONTENDERS  # noqa: E402
from bench.report import write  # noqa: E402
from bench.rows import LIMITS, ROWS  # noqa: E402
from bench.unfinished import Unfinished  # noqa: E402

sys.path.remove(str(ROOT))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_names_contenders_and_entries(row):
    entries = [{"contender": e} if isinstance(e, str) else e for e in row.contenders]
    assert entries[0]["contender"] == "attsvm"
    assert {entry["contender"] for entry in entries} <= CONTENDERS.keys() | LIMITS.keys()
    names = [entry.get("name", entry["contender"]) for entry in entries]
    assert len(set(names)) == len(names)
    for target in row.targets.keys() - {
        *("seconds", "limit", "setup_reads", "flat", "gap", "peak"),
    }:
        assert set(target.split("|")) <= set(names)
    assert row.title
    assert row.about


def test_every_contender_has_a_module():
    for contender in CONTENDERS.values():
        file = ROOT / "bench" / "peers" / f"{contender.module}.py"
        assert file.is_file()


def test_the_page_shows_every_row_that_was_run():
    results = json.loads((ROOT / "bench" / "results.json").read_text(encoding="utf-8"))
    page = (ROOT / "bench" / "results.md").read_text(encoding="utf-8")
    for row in results["rows"]:
        assert f"### {ROWS[row['name']].title}" in page


def test_results_are_written_with_a_line_for_each_contender(tmp_path):
    text = (ROOT / "bench" / "results.json").read_text(encoding="utf-8")
    results = json.loads(text) | {"scaling": []}
    write(results, tmp_path)
    written = (tmp_path / "results.json").read_text(encoding="utf-8")
    assert json.loads(written) == results
    contenders = [one["name"] for row in results["rows"] for one in row["contenders"]]
    lines = [line for line in written.splitlines() if line.startswith('    { "name": ')]
    assert [json.loads(line.rstrip(","))["name"] for line in lines] == contenders


def test_a_run_that_was_cut_off_goes_on_after_its_last_row(tmp_path):
    def fails():
        raise KeyboardInterrupt

    first = Unfinished(tmp_path, {"selection": []}, resume=False)
    record = {"seconds": [0.1, float("nan")], "steps": [1, 10]}
    assert first.get("many-W", lambda: record) == record
    with pytest.raises(KeyboardInterrupt):
        first.get("one-small", fails)
    again = Unfinished(tmp_path, {"selection": []}, resume=True)
    assert str(again.get("many-W", fails)) == str(record)
    assert again.get("one-small", lambda: 2) == 2
    with pytest.raises(ValueError, match=r"^--resume: expected .*Quick"):
        Unfinished(tmp_path, {"selection": ["Quick"]}, resume=True)
    assert Unfinished(tmp_path, {"selection": []}, resume=False).get("many-W", lambda: 3) == 3
    again.end()
    assert not list(tmp_path.iterdir())
