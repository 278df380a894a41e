"""Signals as bytes in a pipe, and everything put back afterwards."""

from __future__ import annotations

import os
import selectors
import signal
import threading

import pytest

from fastecho._workers.signals import SUPERVISOR_SIGNALS, UNUSED_SIGNALS, SignalPipe, reset_in_child, signals_blocked
from patience import DEADLINE


def collect(pipe: SignalPipe, count: int) -> list[int]:
    got: list[int] = []
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while len(got) < count and selector.select(DEADLINE):
            got += pipe.read()
    return got


def test_signals_come_as_their_numbers_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)
    pipe = SignalPipe((signal.SIGUSR1, signal.SIGUSR2))
    pipe.open()
    try:
        assert pipe.read() == []
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert sorted(collect(pipe, 2)) == [signal.SIGUSR1, signal.SIGUSR2]
    finally:
        pipe.close()
    assert (signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)) == before
    assert signal.set_wakeup_fd(-1) == -1
    pipe.close()


def test_an_ignored_signal_of_a_background_job_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = SignalPipe((signal.SIGINT,))
    pipe.open()
    try:
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        pipe.close()
        signal.signal(signal.SIGINT, before)


def test_another_thread_cannot_open_and_leaks_nothing() -> None:
    raised: list[ValueError] = []
    pipe = SignalPipe((signal.SIGUSR1,))

    def open_there() -> None:
        try:
            pipe.open()
        except ValueError as exc:
            raised.append(exc)

    thread = threading.Thread(target=open_there)
    thread.start()
    thread.join(DEADLINE)
    assert raised
    assert pipe.fileno() == -1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM])
def test_a_child_ignores_the_signals_of_its_parent(number: signal.Signals) -> None:
    pipe = SignalPipe(SUPERVISOR_SIGNALS, UNUSED_SIGNALS)
    pipe.open()
    ready, theirs = os.pipe()
    try:
        with signals_blocked():
            child = os.fork()
            if child == 0:
                reset_in_child()
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
                os.write(theirs, b"x")
                ended = signal.sigtimedwait({signal.SIGWINCH}, DEADLINE)
                os._exit(0 if ended else 1)
        os.read(ready, 1)
        os.kill(child, number)
        os.kill(child, signal.SIGWINCH)
        _, status = os.waitpid(child, 0)
        # What reached the child never reaches its parent.
        assert set(pipe.read()) <= {signal.SIGCHLD}
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        pipe.close()
        os.close(ready)
        os.close(theirs)
