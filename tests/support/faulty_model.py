"""The reference: what the edits make of a stream, element by element, written to be obviously right and not fast.

An element is (offset, injected, byte); the byte of a dropped one is None. The kinds act in the order corrupt, drop,
duplicate, inject; within a kind, in the order of arming. What only the end of the stream makes due (the copy of a span
that was cut short) comes last.
"""

from __future__ import annotations


def _of(faults, kind):
    return [fault for fault in faults if fault.kind == kind]


def edited(data, faults):
    stream = [(offset, False, byte) for offset, byte in enumerate(data)]
    tail = []
    for fault in _of(faults, "corrupt"):
        stream = [(at, own, byte ^ fault.get("xor") if at == fault.get("at") else byte) for at, own, byte in stream]
    for fault in _of(faults, "drop"):
        first, end = fault.get("at"), fault.get("at") + fault.get("count")
        stream = [(at, own, None if first <= at < end else byte) for at, own, byte in stream]
    for fault in _of(faults, "duplicate"):
        first, end = fault.get("at"), fault.get("at") + fault.get("count")
        place = next((index for index, each in enumerate(stream) if each[0] >= end), len(stream))
        span = [each for each in stream[:place] if first <= each[0]]
        if len(data) >= end:
            stream[place:place] = span
        else:
            again = span + [each for each in tail if first <= each[0]]
            tail = tail + again
    for fault in _of(faults, "inject"):
        at = fault.get("at")
        if len(data) < at:
            continue
        place = next(
            (index for index, (offset, own, _) in enumerate(stream) if offset > at or (offset == at and not own)),
            len(stream),
        )
        stream[place:place] = [(at, True, byte) for byte in fault.get("data")]
    return bytes(byte for _, _, byte in stream + tail if byte is not None)


def cut(data, cuts):
    """`data` in pieces of these sizes, the rest in one."""
    pieces, at = [], 0
    for size in cuts:
        if at < len(data):
            pieces.append(data[at : at + size])
            at += size
    return [piece for piece in [*pieces, data[at:]] if piece]
