"""The console's built files: what the source builds, small, and asking nobody but the gateway."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.console.npm import BUILT, SOURCE, node_modules

MOST_BYTES = 60_000
NAMES = {"http://www.w3.org/2000/svg", "http://www.w3.org/1998/Math/MathML", "http://www.w3.org/1999/xhtml"}
"""XML namespaces and the like: names in the form of addresses, which nobody opens."""


class Page(HTMLParser):
    """The elements of a page with their attributes, and the text in scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in {"script", "style"}:
            self.inline += data.strip()


@pytest.fixture(scope="module")
def page() -> Page:
    return Page((BUILT / "index.html").read_text())


@pytest.mark.long
def test_the_committed_files_are_what_the_source_builds(tmp_path: Path) -> None:
    packages = node_modules(tmp_path)
    copy = tmp_path / "console"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("node_modules"))
    (copy / "node_modules").symlink_to(packages)
    ended = subprocess.run(
        ["npm", "run", "build", "--silent"], cwd=copy, capture_output=True, text=True, timeout=150, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "gateway" / "console").iterdir()}
    committed = {path.name: path.read_bytes() for path in BUILT.iterdir()}
    assert fresh.keys() == committed.keys()
    changed = [name for name, data in fresh.items() if data != committed[name]]
    assert changed == [], "the source was changed: cd console && npm run build"


def test_all_of_it_is_small() -> None:
    assert sum(len(gzip.compress(path.read_bytes())) for path in BUILT.iterdir()) < MOST_BYTES


def test_it_names_no_other_host() -> None:
    found = {
        address
        for path in BUILT.iterdir()
        for address in re.findall(r"(?:https?:|wss?:)?//[\w.-]+\.[a-z]{2,}[\w./-]*", path.read_text())
    }
    assert found <= NAMES


def test_the_page_holds_no_script_and_no_style_of_its_own(page: Page) -> None:
    assert page.inline == ""
    assert [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)] == []
    assert [attributes for _, attributes in page.elements if "style" in attributes] == []


def test_its_policy_allows_nothing_inline_and_no_other_host(page: Page) -> None:
    meta = [attributes for tag, attributes in page.elements if tag == "meta"]
    policy = next(one["content"] for one in meta if one.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "data:" not in policy
    assert set(re.findall(r"'?[\w:-]+'?", policy.split("; ", 1)[1])) & {"https:", "http:"} == set()
    assert page.elements[page.elements.index(("head", {})) + 1][1].get("http-equiv") == "Content-Security-Policy"


def test_its_files_are_named_relative_to_it(page: Page) -> None:
    named = [attributes.get("src") or attributes.get("href") for _, attributes in page.elements]
    files = [name for name in named if name]
    assert sorted(files) == ["./console.css", "./console.js", "./icon.svg"]


def test_packages_are_pinned_and_no_lock_file_is_kept() -> None:
    wanted = json.loads((SOURCE / "package.json").read_text())
    versions = [*wanted["dependencies"].values(), *wanted["devDependencies"].values(), *wanted["overrides"].values()]
    assert [version for version in versions if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []
    ignored = (SOURCE.parent / ".gitignore").read_text().split()
    assert "package-lock.json" in ignored


def test_the_source_never_makes_html_of_text() -> None:
    forbidden = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|cssText")
    sources = [path for path in (SOURCE / "src").rglob("*") if path.suffix in {".ts", ".tsx"}]
    assert len(sources) > 10
    assert [path.name for path in sources if forbidden.search(path.read_text())] == []
