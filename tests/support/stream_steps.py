"""Clients as a hypothesis state machine: what they do by themselves to any server."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams_sent import Stream

clients = st.integers(0, 19)


class StreamSteps(RuleBasedStateMachine):
    """The machine made of it connects the streams and sends. `total` counts the steps of all sequences."""

    total = 0

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[Stream] = []

    def stream(self, index: int) -> Stream | None:
        return self.streams[index % len(self.streams)] if self.streams else None

    @rule(client=clients, count=st.integers(1, 20_000))
    def read(self, client: int, count: int) -> None:
        if (stream := self.stream(client)) is not None:
            stream.read(count)

    @rule(client=clients)
    def half_close(self, client: int) -> None:
        if (stream := self.stream(client)) is not None:
            stream.half_close()

    @rule(client=clients)
    def reset(self, client: int) -> None:
        if (stream := self.stream(client)) is not None:
            stream.reset()

    @invariant()
    def count(self) -> None:
        type(self).total += 1
