"""`Fault` as a value: what each kind takes, what it refuses in which words, and that equal faults are equal."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import math
import pickle
from typing import Any

import pytest

from fastecho.faults import Fault, format_faults, parse_faults, validate_faults
from fastecho.faults._kinds import KINDS, TLS_KINDS, TRIGGERS
from fastecho.faults._select import SELECTORS

INT64 = (1 << 63) - 1
TRIGGERED = [kind for kind, arguments in KINDS.items() if arguments[-3:] == TRIGGERS]
# One of each kind, with everything given that can be.
SAMPLES = [
    *(getattr(Fault, kind)(after_sent=17) for kind in TRIGGERED),
    Fault.half_close(on=b"QUIT\r\n"),
    Fault.stop_reading(4096, after_received=0),
    Fault.latency(0.1, jitter=0.02),
    Fault.bandwidth(1000.5, burst=10),
    Fault.slice([3, 5, 8], interval=0.5),
    Fault.coalesce(10),
    Fault.corrupt(5, xor=1),
    Fault.drop(5, count=2),
    Fault.duplicate(5, count=2),
    Fault.inject(5, b"'\"\0\n\xff"),
    Fault.refuse(),
    Fault.blackhole(),
    Fault.slow_accept(0.2),
    Fault.tls_abort(),
    Fault.tls_stall(),
    Fault.no_close_notify(),
]


def message_of(make: Any) -> str:
    with pytest.raises(ValueError) as caught:
        make()
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 400
    return text


def test_there_is_a_sample_of_every_kind() -> None:
    assert {fault.kind for fault in SAMPLES} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_constructor_and_table_have_the_same_arguments_and_defaults(kind: str) -> None:
    parameters = inspect.signature(getattr(Fault, kind)).parameters.values()
    assert [each.name for each in parameters] == [each.name for each in KINDS[kind]]
    for parameter, argument in zip(parameters, KINDS[kind], strict=True):
        assert parameter.default == (inspect.Parameter.empty if argument.default is ... else argument.default)
        assert (parameter.kind is parameter.KEYWORD_ONLY) == (argument in TRIGGERS)
    assert getattr(Fault, kind).__doc__
    assert isinstance(inspect.getattr_static(Fault, kind), staticmethod)


@pytest.mark.parametrize("selector", SELECTORS)
def test_selector_and_table_have_the_same_argument(selector: str) -> None:
    assert list(inspect.signature(getattr(Fault, selector)).parameters) == ["self", SELECTORS[selector][0]]
    assert getattr(Fault, selector).__doc__


@pytest.mark.parametrize("fault", SAMPLES, ids=str)
def test_text_reads_as_the_fault_that_wrote_it(fault: Fault) -> None:
    assert parse_faults(str(fault)) == (fault,)
    assert eval(repr(fault)) == fault


@pytest.mark.parametrize("fault", SAMPLES, ids=str)
def test_fault_survives_pickling_and_copying_and_cannot_be_changed(fault: Fault) -> None:
    narrowed = fault.first(2).chance(0.5)
    for twin in (pickle.loads(pickle.dumps(narrowed)), copy.deepcopy(narrowed)):
        assert (twin, hash(twin)) == (narrowed, hash(narrowed))
    with pytest.raises(dataclasses.FrozenInstanceError):
        fault.kind = "close"  # type: ignore[misc]
    assert not hasattr(fault, "__dict__")


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault.reset(after_sent=17).first(2), "reset(after_sent=17).first(2)"),
        (Fault.reset(), "reset()"),
        (Fault.half_close(on=b"QUIT\r\n"), r"half_close(on=b'QUIT\r\n')"),
        (Fault.latency(1), "latency(1)"),
        (Fault.latency(0.1, jitter=0.02), "latency(0.1, jitter=0.02)"),
        (Fault.bandwidth(1e6), "bandwidth(1000000)"),
        (Fault.slice(1), "slice(1)"),
        (Fault.slice((3, 5, 8), 0.5), "slice([3, 5, 8], interval=0.5)"),
        (Fault.corrupt(5, 1).nth(1).every(3).chance(1), "corrupt(5, xor=1).nth(1).every(3).chance(1)"),
    ],
    ids=str,
)
def test_text_is_what_a_person_would_have_written(fault: Fault, text: str) -> None:
    assert str(fault) == text
    assert repr(fault) == f"Fault.{text}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Fault.reset(), Fault.reset(after_sent=None, after_received=None, on=None)),
        (Fault.stop_reading(), Fault.stop_reading(9216)),
        (Fault.latency(1), Fault.latency(1.0, jitter=0)),
        (Fault.slice(3), Fault.slice([3], interval=0.005)),
        (Fault.slice([3, 4]), Fault.slice(range(3, 5))),
        (Fault.corrupt(1), Fault.corrupt(1, 255)),
        (Fault.bandwidth(10), Fault.bandwidth(10.0, burst=None)),
        (Fault.half_close(on=b"x"), Fault.half_close(on=bytearray(b"x"))),
        (Fault.inject(1, b"x"), Fault.inject(1, memoryview(b"x"))),  # type: ignore[arg-type]
    ],
    ids=str,
)
def test_faults_that_mean_the_same_are_equal(one: Fault, other: Fault) -> None:
    assert (one, hash(one), str(one)) == (other, hash(other), str(other))


def test_arguments_stand_in_the_order_of_the_signature() -> None:
    (fault,) = parse_faults("stop_reading(after_received=3, window=5)")
    assert fault.arguments == (("window", 5), ("after_received", 3))


@pytest.mark.parametrize(
    ("fault", "name", "value"),
    [
        (Fault.reset(after_sent=0), "after_sent", 0),
        (Fault.reset(after_sent=0), "on", None),
        (Fault.reset(), "after_sent", None),
        (Fault.stop_reading(), "window", 9216),
        (Fault.slice(3), "sizes", (3,)),
        (Fault.slice([3, 4]), "interval", 0.005),
        (Fault.corrupt(1), "xor", 255),
        (Fault.bandwidth(1000), "burst", 100),
        (Fault.bandwidth(5), "burst", 1),
        (Fault.bandwidth(5, burst=7), "burst", 7),
    ],
)
def test_get_gives_the_default_of_what_was_not_given(fault: Fault, name: str, value: object) -> None:
    assert fault.get(name) == value


def test_get_of_no_argument_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="window"):
        Fault.reset().get("window")


def test_faults_that_need_tls_say_so() -> None:
    assert {fault.kind for fault in SAMPLES if fault.needs_tls} == TLS_KINDS == {
        "tls_abort", "tls_stall", "no_close_notify",
    }


# What is refused. Each kind of argument has its check; the table says which one where.

OFFSET = "must be a whole number of bytes, 0 or more"
COUNT = "must be a whole number of bytes, 1 or more"
SECONDS = "must be a number of seconds between 0 and 86400"
RATE = "must be a number of bytes a second between 0.001 and 1e+12"
XOR = "must be a whole number between 1 and 255; 0 changes nothing"
DATA = "must be bytes, 1 to 64 KiB of them"
WRONG: list[tuple[str, str, str, list[Any]]] = [
    ("reset", "after_sent", OFFSET, [-1, 1.0, True, "1", b"1", math.nan, [1]]),
    ("close", "after_received", OFFSET, [-1, False]),
    ("abort", "on", DATA, [b"", 7, b"x" * 65537, [b"x"], True]),
    ("half_close", "on", "must be bytes, not str", ["QUIT", ""]),
    ("stall", "after_sent", OFFSET, [-1]),
    ("stop_reading", "window", COUNT, [0, -1, None, 1.5, True]),
    ("latency", "mean", SECONDS, [-0.1, math.nan, math.inf, -math.inf, 86401, True, "1", None, b"1"]),
    ("latency", "jitter", SECONDS, [-0.1, math.nan, math.inf, None]),
    ("bandwidth", "bytes_per_s", RATE, [0, -1, math.nan, math.inf, 2e12, True, None]),
    ("bandwidth", "burst", COUNT, [0, -1, 1.5, True]),
    ("slice", "sizes", COUNT, [0, -1, True, 1.5, None, "1", b"1", [0], [3, True], [3, [4]], ["3"]]),
    ("slice", "sizes", "must be a whole number of bytes, or a list of 1 to 1000 of them", [[], (), [1] * 1001]),
    ("slice", "interval", SECONDS, [-1, math.nan]),
    ("coalesce", "n", COUNT, [0, -1, True]),
    ("corrupt", "at", OFFSET, [-1, None]),
    ("corrupt", "xor", XOR, [0, 256, -1, True, None, 1.0]),
    ("drop", "at", OFFSET, [-1, "1"]),
    ("drop", "count", COUNT, [0, -1, None]),
    ("duplicate", "at", OFFSET, [-1, True]),
    ("duplicate", "count", COUNT, [0, None]),
    ("inject", "at", OFFSET, [-1]),
    ("inject", "data", DATA, [b"", None, 7]),
    ("slow_accept", "delay", SECONDS, [-1, math.nan, True]),
]
MOST = [
    ("reset", "after_sent", INT64),
    ("stop_reading", "window", 1 << 30),
    ("bandwidth", "burst", INT64),
    ("slice", "sizes", INT64),
    ("coalesce", "n", 1 << 30),
    ("drop", "count", INT64),
    ("duplicate", "count", 1 << 30),
]


def given(kind: str, name: str, value: object) -> dict[str, Any]:
    """`value`, with valid values for the other required arguments."""
    good = {"mean": 1, "bytes_per_s": 1, "sizes": 1, "at": 1, "data": b"x"}
    needed = {each.name: good[each.name] for each in KINDS[kind] if each.default is ... and each.name in good}
    return {**needed, name: value}


@pytest.mark.parametrize(
    ("kind", "name", "must", "value"),
    [(kind, name, must, value) for kind, name, must, values in WRONG for value in values],
    ids=lambda each: repr(each)[:30],
)
def test_argument_that_will_not_do_is_refused(kind: str, name: str, must: str, value: object) -> None:
    text = message_of(lambda: getattr(Fault, kind)(**given(kind, name, value)))
    assert text.startswith(f"{kind}(")
    assert text.endswith(f": {name} {must}")


def test_every_argument_is_tested() -> None:
    tested = {(kind, name) for kind, name, _, _ in WRONG} | {(kind, each.name) for kind in KINDS for each in TRIGGERS}
    assert {(kind, each.name) for kind, arguments in KINDS.items() for each in arguments} <= tested


@pytest.mark.parametrize(("kind", "name", "most"), MOST)
def test_largest_number_is_taken_and_no_larger_one(kind: str, name: str, most: int) -> None:
    getattr(Fault, kind)(**given(kind, name, most))
    for value in (most + 1, 10**5000):
        text = message_of(lambda value=value: getattr(Fault, kind)(**given(kind, name, value)))
        assert text.endswith(f"{name} must be a whole number of bytes, {most} at most")


def test_line_shows_what_was_given_and_no_defaults() -> None:
    assert message_of(lambda: Fault.reset(after_sent=-1)) == (
        "reset(after_sent=-1): after_sent must be a whole number of bytes, 0 or more"
    )
    assert message_of(lambda: Fault.slice(0)) == "slice(sizes=0): sizes must be a whole number of bytes, 1 or more"


def test_long_value_is_cut_in_the_line() -> None:
    text = message_of(lambda: Fault.inject(0, b"x" * 70000))
    assert text.startswith("inject(at=0, data=b'xxxx")
    assert "x...: data must be bytes" in text
    assert len(text) < 130


@pytest.mark.parametrize("kind", TRIGGERED)
def test_two_triggers_are_refused(kind: str) -> None:
    text = message_of(lambda: getattr(Fault, kind)(after_sent=1, on=b"x"))
    assert text == (
        f"{kind}(after_sent=1, on=b'x'): accepts one trigger only, not 2 (after_sent, on)"
    )


def test_jitter_above_the_mean_is_refused() -> None:
    Fault.latency(0.1, jitter=0.1)
    assert "jitter must be at most the mean" in message_of(lambda: Fault.latency(0.1, jitter=0.11))


def test_fault_made_by_hand_is_checked_too() -> None:
    assert Fault("reset", (("after_sent", 17),)) == Fault.reset(after_sent=17)
    assert message_of(lambda: Fault("rset")) == "rset(): no such fault; did you mean reset?"
    assert "no such argument: after; did you mean after_" in message_of(lambda: Fault("reset", (("after", 1),)))
    assert "needs mean" in message_of(lambda: Fault("latency"))
    assert "frist: no such selector" in message_of(lambda: Fault("reset", (), (("frist", 1),)))
    assert "mean must be" in message_of(lambda: dataclasses.replace(Fault.latency(1), arguments=(("mean", -1),)))


# What the configuration takes.


def test_faults_are_given_as_faults_text_or_a_sequence_of_both() -> None:
    reset, refuse = Fault.reset(), Fault.refuse()
    assert validate_faults(reset) == validate_faults("reset()") == validate_faults([reset]) == (reset,)
    assert validate_faults(("reset(); refuse()", reset)) == (reset, refuse, reset)
    assert validate_faults(()) == validate_faults("none") == validate_faults([]) == ()


@pytest.mark.parametrize("value", [None, 7, b"reset()", [7], [["reset()"]], {"reset()"}, Fault, {"reset()": 1}])
def test_what_is_no_fault_is_refused(value: object) -> None:
    assert "must be faults or their text, such as reset(after_sent=17).first(2)" in message_of(
        lambda: validate_faults(value)
    )


def test_faults_are_shown_as_they_are_read() -> None:
    faults = tuple(SAMPLES)
    assert parse_faults(format_faults(faults)) == faults
    assert parse_faults(format_faults(())) == ()


# The limits of each argument, and how a message shows a value.

LEAST_AND_MOST: list[tuple[str, str, Any, Any]] = [
    ("reset", "after_sent", 0, INT64),
    ("reset", "on", b"x", b"x" * 65536),
    ("stop_reading", "window", 1, 1 << 30),
    ("latency", "mean", 0, 86400),
    ("bandwidth", "bytes_per_s", 0.001, 1e12),
    ("bandwidth", "burst", 1, INT64),
    ("slice", "sizes", [1], [1] * 1000),
    ("slice", "interval", 0, 86400),
    ("coalesce", "n", 1, 1 << 30),
    ("corrupt", "at", 0, INT64),
    ("corrupt", "xor", 1, 255),
    ("drop", "count", 1, INT64),
    ("duplicate", "count", 1, 1 << 30),
    ("inject", "data", b"x", b"x" * 65536),
    ("slow_accept", "delay", 0, 86400),
]


@pytest.mark.parametrize(("kind", "name", "least", "most"), LEAST_AND_MOST, ids=lambda each: repr(each)[:20])
def test_the_least_and_the_most_of_an_argument_are_taken(kind: str, name: str, least: Any, most: Any) -> None:
    for value in (least, most):
        kept = getattr(Fault, kind)(**given(kind, name, value)).get(name)
        assert kept == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("value", [bytearray(b"xy"), memoryview(b"xy"), b"xy"], ids=lambda each: type(each).__name__)
def test_data_is_kept_as_bytes(value: Any) -> None:
    kept = Fault.inject(0, value).get("data")
    assert (kept, type(kept)) == (b"xy", bytes)


@pytest.mark.parametrize("value", ["12", b"12", bytearray(b"12"), memoryview(b"12"), {1: 2}, {1}])
def test_sizes_are_a_number_or_a_list_and_no_text(value: Any) -> None:
    assert message_of(lambda: Fault.slice(value)).endswith(f": sizes {COUNT}")


def test_numbers_are_kept_as_plain_numbers() -> None:
    class Number(int):
        pass

    for fault, name in ((Fault.drop(Number(7)), "at"), (Fault.corrupt(7, Number(7)), "xor")):
        assert (fault.get(name), type(fault.get(name))) == (7, int)
    assert type(Fault.latency(7).get("mean")) is float


@pytest.mark.parametrize(
    ("fault", "needs"),
    [
        (Fault.reset(), "reset sends RST"),
        (Fault.refuse(), "refuse sends RST"),
        (Fault.tls_abort(), "tls_abort sends RST"),
        (Fault.stop_reading(1), "stop_reading(window) sets the receive window"),
        (Fault.stop_reading(), ""),
        (Fault.close(), ""),
        (Fault.abort(), ""),
        (Fault.latency(1), ""),
        (Fault.slow_accept(1), ""),
    ],
    ids=str,
)
def test_faults_that_need_tcp_say_what_for(fault: Fault, needs: str) -> None:
    assert fault.needs_tcp == needs


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Fault("refuse", (("after", 1),)), "refuse(after=1): no such argument: after; it takes no arguments"),
        (
            lambda: Fault("latency", (("mean", 1), ("xyz", 1))),
            "latency(mean=1, xyz=1): no such argument: xyz; must be one of mean, jitter",
        ),
        (lambda: Fault("coalesce"), "coalesce(): needs n"),
        (lambda: Fault("corrupt", (("at", None),)), f"corrupt(at=None): at {OFFSET}"),
        (lambda: Fault("zzz").kind, f"zzz(): no such fault; must be one of {', '.join(KINDS)}"),
        (lambda: Fault.drop(-1, count=True), f"drop(at=-1, count=True): at {OFFSET}"),
        (lambda: Fault.drop(-1, count=1), f"drop(at=-1): at {OFFSET}"),
        (lambda: Fault.drop(1, count=-1), f"drop(at=1, count=-1): count {COUNT}"),
        (lambda: Fault.stop_reading(None), f"stop_reading(window=None): window {COUNT}"),  # type: ignore[arg-type]
        (lambda: Fault.bandwidth(1e12 + 1), f"bandwidth(bytes_per_s=1000000000001.0): bytes_per_s {RATE}"),
        (lambda: Fault.drop(10**5000), f"drop(at=...): at must be a whole number of bytes, {INT64} at most"),
    ],
)  # fmt: skip
def test_a_message_has_the_call_and_what_is_accepted(make: Any, line: str) -> None:
    assert message_of(make) == line


@pytest.mark.parametrize(
    ("length", "shown"),
    [(80, "x" * 80), (81, "x" * 77 + "..."), (800, "x" * 77 + "..."), (801, "x" * 77 + "...")],
)
def test_a_message_shows_at_most_80_characters_of_a_text(length: int, shown: str) -> None:
    assert message_of(lambda: parse_faults("x" * length)).partition(":")[0] == shown


def test_a_message_shows_that_it_left_out_white_space_behind_a_long_text() -> None:
    assert message_of(lambda: parse_faults("rset ( ) + " + " " * 900 + "0")).startswith("rset ( ) +...: ")


@pytest.mark.parametrize(("length", "shown"), [(799, "x y()"), (800, "x y()"), (801, "x y(...")])
def test_a_message_shows_no_white_space_twice_and_reads_800_characters_of_a_text(length: int, shown: str) -> None:
    kind = "x" + " " * (length - 4) + "y"
    assert message_of(lambda: Fault(kind)).partition(":")[0] == shown


def test_characters_that_cannot_be_printed_are_escaped_in_a_message() -> None:
    assert message_of(lambda: Fault("a\x1bb\tc")).startswith("a\\x1bb c(): ")
