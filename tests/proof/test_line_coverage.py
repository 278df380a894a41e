"""How `make coverage` reads Cython sources and the list of lines that are not run."""

import pytest
from proof.line_coverage import Listed, cython_conditions

SOURCE = """\
cdef int f(int n):
    if n > 1:
        n += 1
    elif (n == 0
            and n):     # why
        n = 2
    for i in range(n):
        g(i)
        # a comment
        h(i)
    while n:
        n -= 1
    return n
"""
EXECUTABLE = {2, 3, 4, 6, 7, 8, 10, 11, 12, 13}
BOTH_WAYS = {(2, 3), (2, 4), (4, 6), (4, 7), (7, 8), (10, 11), (11, 12), (12, 13)}


@pytest.fixture
def conditions(tmp_path):
    path = tmp_path / "f.pyx"
    path.write_text(SOURCE)
    return {each.line: each for each in cython_conditions(path, EXECUTABLE)}


def test_the_conditions_of_a_source_are_found_with_their_first_line(conditions):
    assert {line: each.first for line, each in conditions.items()} == {2: 3, 4: 6, 7: 8, 11: 12}


def test_conditions_that_took_both_ways(conditions):
    assert all(each.took_both_ways(BOTH_WAYS) for each in conditions.values())


@pytest.mark.parametrize(
    ("line", "arc"), [(2, (2, 3)), (2, (2, 4)), (4, (4, 6)), (4, (4, 7)), (7, (7, 8)), (7, (10, 11)), (11, (12, 13))]
)
def test_a_condition_without_one_of_its_ways_is_found(conditions, line, arc):
    assert not conditions[line].took_both_ways(BOTH_WAYS - {arc})


def test_a_listed_line_stands_for_its_block(tmp_path):
    (tmp_path / "f.pyx").write_text(SOURCE)
    (tmp_path / "listed.toml").write_text(
        '["f.pyx"]\n"for i in range(n):" = "why"\n"branch: while n:" = "why"\n"gone()" = "why"\n'
    )
    listed = Listed(tmp_path / "listed.toml", tmp_path)
    assert listed.lines("f.pyx") == {7, 8, 9, 10}
    assert listed.branches("f.pyx") == {11}
    assert listed.lines("g.pyx") == set()
    assert listed.unknown() == ["f.pyx: gone()"]


def test_a_listed_line_can_be_named_with_the_one_above_it(tmp_path):
    (tmp_path / "f.pyx").write_text("if a:\n    return\nelif b:\n    # why\n    return\nreturn\n")
    (tmp_path / "listed.toml").write_text('["f.pyx"]\n"elif b: / return" = "why"\n"if c: / return" = "why"\n')
    listed = Listed(tmp_path / "listed.toml", tmp_path)
    assert listed.lines("f.pyx") == {5}
    assert listed.unknown() == ["f.pyx: if c: / return"]
    assert listed.ambiguous("f.pyx", {5}, {1, 2, 3, 6}) == []


def test_an_entry_that_stands_for_a_line_that_is_run_as_well_is_ambiguous(tmp_path):
    (tmp_path / "f.pyx").write_text("if a:\n    return\nreturn\n")
    (tmp_path / "listed.toml").write_text('["f.pyx"]\n"return" = "why"\n')
    listed = Listed(tmp_path / "listed.toml", tmp_path)
    assert listed.ambiguous("f.pyx", {2}, {1, 3}) == ["f.pyx: return"]
    assert listed.ambiguous("f.pyx", {2, 3}, {1}) == []
