"""No dead link in README and docs, as GitHub shows them. `make docs` checks those of the site, which has more pages."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from pages import PAGES, ROOT, anchors, links, read


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_to_a_file_and_to_an_anchor_in_it(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        assert target.exists(), f"{link}: there is no such file"
        # The reference is filled by mkdocstrings: `make docs` checks its anchors.
        if anchor and target.suffix == ".md" and target.parent.name != "reference":
            assert anchor in anchors(target), f"{link}: the page has no such heading"


def test_each_page_of_the_documentation_is_in_the_navigation_of_the_site() -> None:
    listed = set(re.findall(r": ([\w/-]+\.md)$", read(ROOT / "mkdocs.yml"), re.M))
    docs = ROOT / "docs"
    assert listed == {str(page.relative_to(docs)) for page in docs.rglob("*.md")}
