# cython: always_allow_keywords=False
"""--busy-poll: after a byte the loop polls for more without sleeping.

A wake-up from epoll_wait costs tens of microseconds. A loop with a pending callback does not sleep: it polls the kernel
and returns at once, at the price of a busy CPU.
"""

from ._session cimport EchoSession, Sessions, receive
from ._sys cimport fe_monotonic


cdef class BusyPollSession(EchoSession):
    def buffer_updated(self, Py_ssize_t nbytes):
        receive(self, nbytes)
        (<BusyPollSessions>self.registry).keep_awake()


cdef class BusyPollSessions(Sessions):
    def __init__(self, config, loop, **options):
        super().__init__(config, loop, **options)
        self.busy_poll = config.busy_poll * 1e-6
        self.poll_again = self.poll

    def new_session(self):
        return self.begin(BusyPollSession.__new__(BusyPollSession))

    cdef int keep_awake(self) except -1:
        if not self.polling and self.poll_again is not None:
            self.polling = True
            self.seen = 0           # so that the first poll counts the read that woke the loop
            self.loop.call_soon(self.poll_again)
        return 0

    def poll(self):
        cdef double now = fe_monotonic()
        if self.seen != self.context.counters.reads:
            self.seen = self.context.counters.reads
            self.awake_until = now + self.busy_poll
        self.polling = now < self.awake_until and not self.closed
        if self.polling:
            self.loop.call_soon(self.poll_again)

    def close(self):
        super().close()
        self.poll_again = None      # a cycle
