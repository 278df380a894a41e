# cython: always_allow_keywords=False
"""--busy-poll: after a byte the loop looks for more without sleeping.

A wake-up from epoll_wait costs tens of microseconds. A loop that has something to call does not sleep: it asks the kernel
and comes back at once, at the price of a busy CPU.
"""

from ._session cimport EchoSession, SessionGroup, take_in
from ._sys cimport fe_monotonic


cdef class SpinningSession(EchoSession):
    def buffer_updated(self, Py_ssize_t nbytes):
        take_in(self, nbytes)
        (<SpinningGroup>self.group).keep_awake()


cdef class SpinningGroup(SessionGroup):
    def __init__(self, config, loop, **options):
        super().__init__(config, loop, **options)
        self.busy_poll = config.busy_poll * 1e-6
        self.look_again = self.spin

    def new_session(self):
        return self.begin(SpinningSession.__new__(SpinningSession))

    cdef int keep_awake(self) except -1:
        if not self.spinning and self.look_again is not None:
            self.spinning = True
            self.seen = 0           # so that the first look counts the read that woke us
            self.loop.call_soon(self.look_again)
        return 0

    def spin(self):
        cdef double now = fe_monotonic()
        if self.seen != self.shared.count.reads:
            self.seen = self.shared.count.reads
            self.awake_until = now + self.busy_poll
        self.spinning = now < self.awake_until and not self.closed
        if self.spinning:
            self.loop.call_soon(self.look_again)

    def close(self):
        super().close()
        self.look_again = None      # a cycle
