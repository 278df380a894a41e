"""README and the documentation as the tests see them: pages, their code blocks, links and headings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.M | re.S)
_HEADING = re.compile(r"^#+ +(.*?) *#*$", re.M)


class Block(NamedTuple):
    page: Path
    number: int  # on its page
    heading: str  # of its section
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)} {self.number} {self.heading}"

    @property
    def tests(self) -> int:
        """The number of test functions in it."""
        return len(re.findall(r"^(?:async )?def test_", self.code, re.M))


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> list[Block]:
    text = read(page)
    found = []
    for number, match in enumerate(_BLOCK.finditer(text)):
        above = _HEADING.findall(_BLOCK.sub("", text[: match.start()]))
        found.append(Block(page, number, above[-1] if above else "", match[1], match[2]))
    return found


BLOCKS = [block for page in PAGES for block in blocks(page)]


def prose(page: Path) -> str:
    """The page without its code blocks and comments."""
    return re.sub(r"<!--.*?-->", "", _BLOCK.sub("", read(page)), flags=re.S)


def spans(page: Path) -> list[str]:
    """The inline code of the page."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose(page))


def links(page: Path) -> list[str]:
    text = re.sub(r"(?<!`)`[^`\n]+`(?!`)", "", prose(page))
    return re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r"(?:src|srcset|href)=\"([^\"]+)\"", text)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from the headings; mkdocs.yml asks for the same."""
    found: set[str] = set(re.findall(r"id=\"([^\"]+)\"", prose(page)))
    for heading in _HEADING.findall(prose(page)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-1")
    return found
