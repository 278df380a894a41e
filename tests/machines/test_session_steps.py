"""Sessions of one loop, moved by hypothesis through any sequence of steps, against the reference model."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from worlds import CAPACITY, TAKES, World, world_of

STEPS = 50
clients = st.integers(0, 39)


class SessionSteps(RuleBasedStateMachine):
    """The rules are the steps of `World`, in any order."""

    loop = None
    total = 0

    def __init__(self) -> None:
        super().__init__()
        self.world: World | None = None

    @initialize(options=st.integers(0, 63))
    def begin(self, options: int) -> None:
        self.world = world_of(self.loop, options)
        self.world.connect(1)

    @rule(takes=st.integers(0, len(TAKES) - 1))
    def connect(self, takes: int) -> None:
        self.world.connect(takes)

    @rule(client=clients, kind=st.integers(0, 7), size=st.integers(0, 1199))
    def send(self, client: int, kind: int, size: int) -> None:
        self.world.send(client, kind, size)

    @rule(client=clients, kind=st.integers(0, 7), size=st.integers(0, 1199), most=st.integers(1, CAPACITY))
    def send_and_deliver_a_cut(self, client: int, kind: int, size: int, most: int) -> None:
        self.world.send(client, kind, size)
        self.world.deliver(client, most)

    @rule(client=clients, most=st.integers(1, CAPACITY))
    def deliver(self, client: int, most: int) -> None:
        self.world.deliver(client, most)

    @rule(client=clients)
    def deliver_a_full_buffer(self, client: int) -> None:
        self.world.deliver(client, CAPACITY)

    @rule(client=clients, most=st.integers(1, 2 * CAPACITY))
    def take(self, client: int, most: int) -> None:
        self.world.take(client, most)

    @rule(client=clients, takes=st.integers(0, len(TAKES) - 1))
    def read_slowly(self, client: int, takes: int) -> None:
        self.world.read_slowly(client, takes)

    @rule(client=clients)
    def half_close(self, client: int) -> None:
        self.world.half_close(client)

    @rule(client=clients)
    def reset(self, client: int) -> None:
        self.world.reset(client)

    @rule()
    def turn(self) -> None:
        self.world.turn()

    @rule(seconds=st.sampled_from([0.05, 0.05, 0.25, 0.25, 1.0, 3.0, 31.0, 61.0]))
    def sweep(self, seconds: float) -> None:
        self.world.sweep(seconds)

    @rule(seldom=st.integers(0, 19))
    def drain(self, seldom: int) -> None:
        if seldom == 7:
            self.world.drain()

    @invariant()
    def each_client_has_what_is_due(self) -> None:
        if self.world is not None:
            self.world.check()

    def teardown(self) -> None:
        if self.world is None:
            return
        try:
            self.world.finish()
        finally:
            self.world.close()
            type(self).total += self.world.steps


@pytest.mark.proof("A client gets exactly the bytes that are due to it, in order, once, for any order of events.")
def test_any_steps_of_any_sessions(loop, amount, record_property):
    steps = amount(suite=400, proof=50_000, release=1_000_000)

    class Steps(SessionSteps):
        pass

    Steps.loop = loop
    # As in the suite each run tries the same; a proof tries what was not tried before.
    # The first sequences are short.
    chosen = settings(max_examples=steps // STEPS + steps // 400, stateful_step_count=STEPS, derandomize=steps == 400)
    run_state_machine_as_test(Steps, settings=chosen)
    record_property("steps", Steps.total)
    assert Steps.total >= steps * 0.8
