"""The text form: what it may look like, and one line that says what is wrong where it is wrong."""

from __future__ import annotations

import contextlib
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastecho.faults import Fault, format_faults, parse_faults

offsets = st.integers(0, (1 << 63) - 1)
counts = st.integers(1, (1 << 63) - 1)
sizes = st.integers(1, 1 << 30)
seconds = st.floats(0, 86400)
data = st.binary(min_size=1, max_size=40)
triggers = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"after_sent": offsets}),
    st.fixed_dictionaries({"after_received": offsets}),
    st.fixed_dictionaries({"on": data}),
)
plain = st.one_of(
    st.builds(
        lambda make, given: make(**given),
        st.sampled_from([Fault.reset, Fault.close, Fault.abort, Fault.half_close, Fault.stall]),
        triggers,
    ),
    st.builds(lambda window, given: Fault.stop_reading(window, **given), sizes, triggers),
    st.builds(Fault.latency, seconds),
    st.builds(lambda mean: Fault.latency(mean, mean / 2), seconds),
    st.builds(Fault.bandwidth, st.floats(0.001, 1e12) | st.integers(1, 10**12), st.none() | counts),
    st.builds(Fault.slice, counts | st.lists(counts, min_size=1, max_size=5), seconds),
    st.builds(Fault.coalesce, sizes),
    st.builds(Fault.corrupt, offsets, st.integers(1, 255)),
    st.builds(Fault.drop, offsets, counts),
    st.builds(Fault.duplicate, offsets, sizes),
    st.builds(Fault.inject, offsets, data),
    st.builds(Fault.slow_accept, seconds),
    st.sampled_from([Fault.refuse(), Fault.blackhole(), Fault.tls_abort(), Fault.tls_stall()]),
)
faults = st.builds(
    lambda fault, selectors: Fault(fault.kind, fault.arguments, tuple(selectors.items())),
    plain,
    st.fixed_dictionaries({}, optional={"nth": counts, "first": counts, "every": counts, "chance": st.floats(0, 1)}),
)


@given(st.lists(faults, min_size=1, max_size=4).map(tuple))
def test_every_fault_can_be_written_and_read_again(written: tuple[Fault, ...]) -> None:
    assert parse_faults(format_faults(written)) == written
    assert tuple(fault for each in written for fault in parse_faults(str(each))) == written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", ()),
        (" none\n", ()),
        ("reset()", (Fault.reset(),)),
        ("reset();refuse()", (Fault.reset(), Fault.refuse())),
        ("\nreset()\n\n refuse() ;;\n", (Fault.reset(), Fault.refuse())),
        ("reset()\r  refuse()\r\n", (Fault.reset(), Fault.refuse())),
        ("reset(\n  after_sent = 17 ,\n) . first ( 2 )", (Fault.reset(after_sent=17).first(2),)),
        ("reset(after_sent=17,).first(n=2)", (Fault.reset(after_sent=17).first(2),)),
        ("reset(after_sent=None)", (Fault.reset(),)),
        ("  reset()  # the first\n    refuse()", (Fault.reset(), Fault.refuse())),
        ("latency(mean=.1, jitter=2e-2)", (Fault.latency(0.1, 0.02),)),
        ("latency(jitter=0.02, mean=0.1)", (Fault.latency(0.1, 0.02),)),
        ("latency(+1.)", (Fault.latency(1),)),
        ("corrupt(1_000, 0x0F)", (Fault.corrupt(1000, 15),)),
        ("slice([3, 5, 8,], 1)", (Fault.slice([3, 5, 8], 1),)),
        ("slice(\n[3,\n5])", (Fault.slice([3, 5]),)),
        ("reset().chance(1e-3)", (Fault.reset().chance(0.001),)),
    ],
)
def test_each_form_of_the_text_is_parsed(text: str, expected: tuple[Fault, ...]) -> None:
    assert parse_faults(text) == expected


def test_text_of_a_mebibyte_is_parsed() -> None:
    text = "reset()".rjust(1 << 20)
    assert parse_faults(text) == (Fault.reset(),)
    with pytest.raises(ValueError, match=r"^must be at most 1 MiB of text$"):
        parse_faults(" " + text)


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("b'QUIT'", b"QUIT"),
        ('"QUIT"', b"QUIT"),
        ("B'x'", b"x"),
        (r"'QUIT\r\n'", b"QUIT\r\n"),
        (r"'\x00\xff\377\0'", b"\0\xff\xff\0"),
        (r"'\3777\12\0'", b"\xff7\n\0"),
        (r"'\\\'\"'", b"\\'\""),
        ("'it; is) # this'", b"it; is) # this"),
        ("'é'", "é".encode()),
        ("'\udcff'", b"\xff"),
        (r"'\0\r\t'", b"\0\r\t"),
        ("'a' 'b'", b"ab"),
    ],
)
def test_string_is_the_bytes_that_it_says(literal: str, value: bytes) -> None:
    assert parse_faults(f"half_close(on={literal})") == (Fault.half_close(on=value),)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "must be faults, such as reset(after_sent=17).first(2), or none"),
        (" ; \n", "must be faults, such as reset(after_sent=17).first(2), or none"),
        ("rset()", "rset: no such fault; did you mean reset?"),
        ("reset(); rset()", "rset: no such fault; did you mean reset?"),
        ("reset()\rrset()", "rset: no such fault; did you mean reset?"),
        ("reset(\r\nafter_sent=[x])", "reset( after_sent=[x: that is no value; numbers, strings and lists are"),
        ("Reset()", "Reset: no such fault; did you mean reset?"),
        ("none; reset()", "none: must stand alone"),
        ("nth(1)", "nth: a selector stands behind a fault, such as reset().nth"),
        ('reset', 'reset: needs brackets: reset()'),
        ('reset; close()', 'reset: needs brackets: reset()'),
        ('()', '(): must be a fault, such as reset(after_sent=17).first(2)'),
        ('import os', 'import os: must be a fault, such as reset(after_sent=17).first(2)'),
        ('17', '17: must be a fault, such as reset(after_sent=17).first(2)'),
        ("reset().close()", "reset().close: faults must be separated by ; or a new line"),
        ("reset().frist(2)", "reset().frist: no such selector; did you mean first?"),
        ("reset().qqq(2)", "reset().qqq: no such selector; must be one of nth, first, every, where, chance"),
        ("reset().where(f)", "reset().where: takes a function, so it can be given in Python only"),
        ("reset().zzz(2)", "reset().zzz: no such selector; must be one of nth, first, every, where, chance"),
        ("reset().nth()", "reset().nth(): needs n, and nothing else"),
        ("reset().nth(x=1)", "reset().nth(x=1): needs n, and nothing else"),
        ("reset().nth(1, 2)", "reset().nth(1, 2: takes n and no more"),
        ("reset().nth(0)", "nth(0): n must be a whole number, 1 or more"),
        ("reset().nth(1).nth(2)", "nth(2): nth is given twice"),
        ("reset(17)", "reset(17: takes after_sent, after_received, on by name"),
        ("stop_reading(1, 2)", "stop_reading(1, 2: takes after_sent, after_received, on by name"),
        ("latency(1, 0, 3)", "latency(1, 0, 3: takes mean, jitter and no more"),
        ("refuse(1)", "refuse(1: takes no argument"),
        ("refuse(x=1)", "refuse(x=1): no such argument: x; it takes no arguments"),
        ("reset(afterout=1)", "reset(afterout=1): no such argument: afterout; did you mean after_sent?"),
        ("latency(zzz=1)", "latency(zzz=1): no such argument: zzz; must be one of mean, jitter"),
        ("latency()", "latency(): needs mean"),
        ("inject(1)", "inject(at=1): needs data"),
        ('latency(1, mean=2)', 'latency(1, mean=2: mean is given twice'),
        ('latency(1, zz=1, zz=1)', 'latency(1, zz=1, zz=1: zz is given twice'),
        (
            f"refuse({'x' * 60}=1, {'x' * 60}=2)",
            f"refuse({'x' * 60}=1, {'x' * 6}...: {'x' * 37}... is given twice",
        ),
        ("reset(after_sent=-1)", "reset(after_sent=-1): after_sent must be a whole number of bytes, 0 or more"),
        ("reset(after_sent=1.0)", "reset(after_sent=1.0): after_sent must be a whole number of bytes, 0 or more"),
        ("reset(after_sent=True)", "reset(after_sent=True): after_sent must be a whole number of bytes, 0 or more"),
        ("reset(after_sent=[1])", "reset(after_sent=[1]): after_sent must be a whole number of bytes, 0 or more"),
        ("reset(after_sent='1')", "reset(after_sent=b'1'): after_sent must be a whole number of bytes, 0 or more"),
        ("latency(1e999)", "latency(mean=inf): mean must be a number of seconds between 0 and 86400"),
        ("latency(nan)", "latency(nan: that is no value; numbers, strings and lists are"),
        ('latency(1+1)', 'latency(1+1: that is no value; numbers, strings and lists are'),
        ('latency(2**9)', 'latency(2**9: that is no value; numbers, strings and lists are'),
        ("reset(**5)", "reset(**5: that is no value; numbers, strings and lists are"),
        ('latency(--1)', 'latency(--1: that is no value; numbers, strings and lists are'),
        ('slice([1, [2]])', 'slice([1, [2]: that is no value; numbers, strings and lists are'),
        ("slice([])", "slice(sizes=[]): sizes must be a whole number of bytes, or a list of 1 to 1000 of them"),
        ('slice({1})', 'slice({1}: that is no value; numbers, strings and lists are'),
        ("reset(on='\\q')", "reset(on='\\q: the only escapes are \\0 \\r \\n \\t \\\\ \\xNN and the like"),
        ("close()\nreset(on='\\q')", "reset(on='\\q: the only escapes are \\0 \\r \\n \\t \\\\ \\xNN and the like"),
        ("reset(on='\\477')", "reset(on='\\4: the only escapes are \\0 \\r \\n \\t \\\\ \\xNN and the like"),
        ("reset(on='\\u20ac')", "reset(on='\\u: the only escapes are \\0 \\r \\n \\t \\\\ \\xNN and the like"),
        ("reset(on='')", "reset(on=b''): on must be bytes, 1 to 64 KiB of them"),
        ("reset(on='\ud800')", "reset(on='\\ud800'): that is no text"),
        ("__import__('os')", "__import__: no such fault; must be one of reset, close, abort,"),
        ('reset(after_sent=os.x())', 'reset(after_sent=os.x(): that is no value; numbers, strings and lists are'),
        ('# reset()', 'must be faults, such as reset(after_sent=17).first(2), or none'),
    ],
    ids=lambda each: repr(each)[:40],
)
def test_text_that_is_no_fault_is_told_in_one_line(text: str, line: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_faults(text)
    said = str(caught.value)
    assert said.startswith(line)
    assert said == line or line.endswith(",")
    assert said.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        'reset(',
        'reset(;)',
        'reset(after_sent=)',
        'latency(1 2)',
        'latency(,)',
        'reset() close()',
        'reset().',
        'latency(100ms)',
        'latency(1.2.3)',
        'latency(007)',
        'latency(1__0)',
        'slice([1 2])',
        'slice([1',
        "reset(on='abc)",
        "reset(on='a\nb')",
        'reset\x00()',
        'réset()',
    ],
    ids=lambda each: repr(each)[:40],
)
def test_a_syntax_error_is_one_line_with_the_text_and_an_example(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_faults(text)
    said = str(caught.value)
    assert said.startswith(text.split("\n")[0].replace("\0", "\\x00"))
    assert said.endswith("must be faults, such as reset(after_sent=17).first(2)")
    assert said.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "slice(" + "[" * 100_000,
        "reset(after_sent=" + "-" * 100_000 + "1)",
        "reset(after_sent=1" + "+1" * 100_000 + ")",
        "reset(after_sent=" + "9" * 100_000 + ")",
        "reset(after_sent=0x" + "f" * 100_000 + ")",
        "latency(1e" + "9" * 100_000 + ")",
        "latency(" + "9" * 100_000 + ".0)",
        "slice([" + "1," * 100_000 + "])",
        "inject(0, '" + r"\x00" * 100_000 + "')",
        "inject(0, '" + "x" * 500_000,
        "reset()" + ".first(1)" * 50_000,
        "reset(" + "after_sent=1," * 50_000 + ")",
        "x" * 1_000_000 + "()",
        "reset()." + "x" * 100_000 + "()",
        "reset(" + "x" * 100_000 + "=1)",
        "reset() " + " " * 900_000 + "reset()",
    ],
    ids=lambda text: text[:20],
)
def test_huge_or_deeply_nested_text_is_refused_and_nothing_worse(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_faults(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", [None, 7, b"reset()", Fault.reset()])
def test_what_is_no_text_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be faults, such as"):
        parse_faults(text)  # type: ignore[arg-type]


# Text that is nearly a fault finds more than text of any kind.
pieces = st.sampled_from(
    [*"()[],.=;\n -+'\\é", "reset", "slice", "nth", "where", "after_sent", "on", "17", "0.5", "1e9", "0x", "b'"]
)


@given(st.text() | st.lists(pieces).map("".join))
def test_no_text_raises_anything_but_a_value_error_or_warns(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(ValueError):
            parse_faults(text)
