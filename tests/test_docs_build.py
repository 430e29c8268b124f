"""The documentation builds without a warning, loads nothing and has the expected contents."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import attsvm

pytest.importorskip("sphinx")

ROOT = Path(__file__).parent.parent
QUICK_FIGURES = ("single-input", "joint-training")


class Links(HTMLParser):
    """The targets of a page's links, and its anchors."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.linked, self.anchors = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if "id" in values:
            self.anchors.add(values["id"])
        if tag in ("script", "img", "iframe"):
            self.loaded.add(values.get("src"))
        if tag == "link" and values.get("rel") in ("stylesheet", "preload", "preconnect"):
            self.loaded.add(values.get("href"))
        if tag == "a" and values.get("href"):
            self.linked.add(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the pages, with two figures in the gallery."""
    folder = tmp_path_factory.mktemp("site")
    tree = folder / "tree"
    kept = subprocess.run(
        ["git", "ls-files", "-z", "docs", "bench"], cwd=ROOT, check=True, capture_output=True
    )
    for name in filter(None, kept.stdout.decode().split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    built = folder / "html"
    strict = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    figures = ["-D", f"gallery_figures={','.join(QUICK_FIGURES)}"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *strict, *figures, tree / "docs", built],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return built


def text_of(page):
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


@pytest.mark.slow
class TestSite:
    def test_nothing_is_loaded_from_elsewhere(self, site):
        pages = list(site.rglob("*.html"))
        assert len(pages) > 20
        for page in pages:
            for target in Links(page.read_text(encoding="utf-8")).loaded - {None}:
                assert not re.match(r"(\w+:)?//", target), (page, target)

    def test_links_inside_resolve(self, site):
        found = {
            page.resolve(): Links(page.read_text(encoding="utf-8")) for page in site.rglob("*.html")
        }
        for page, links in found.items():
            for link in links.linked:
                if re.match(r"\w+:", link):
                    continue
                file, _, anchor = link.partition("#")
                target = (page.parent / file).resolve() if file else page
                assert target.exists(), (page, link)
                if anchor and target in found:
                    assert anchor in found[target].anchors, (page, link)

    def test_every_public_name_is_in_the_reference(self, site):
        reference = set()
        for page in (site / "api").glob("*.html"):
            reference |= Links(page.read_text(encoding="utf-8")).anchors
        modules = {"datasets", "functional", "heads", "theory", "__version__"}
        public = {f"attsvm.{name}" for name in set(attsvm.__all__) - modules}
        assert public | {"attsvm.torch.Attention", "attsvm.sklearn.AttentionSVM"} <= reference

    def test_the_gallery_has_the_numbers(self, site):
        for name in QUICK_FIGURES:
            page = site / "gallery" / f"{name}.html"
            assert f"attsvm reproduce {name}" in text_of(page)
            text = text_of(page)
            assert all(word in text for word in ("expected", "obtained", "tolerance", "ok"))
            assert "OUTSIDE" not in text
            assert any(f"{name}.png" in str(target) for target in Links(page.read_text()).loaded)

    def test_formulas_are_mathml(self, site):
        page = (site / "numerics.html").read_text(encoding="utf-8")
        assert page.count("<math") > 10
        assert not re.search(r">\s*\\[a-zA-Z]+", page)  # a command that was not converted

    def test_the_performance_page_marks_missed_targets(self, site):
        assert "missed" in text_of(site / "performance.html")
