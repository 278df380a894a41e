# cython: always_allow_keywords=False
"""--busy-poll: after a byte the loop polls for more without sleeping.

A wake-up from epoll_wait costs tens of microseconds. A loop with a pending callback does not sleep: it polls the kernel
and returns at once, at the price of a busy CPU. With a number it does so after each byte. With `auto` a `PollPolicy`
decides after which.
"""

from ._poll_policy cimport PollPolicy
from ._session cimport EchoSession, Sessions, receive
from ._sys cimport ThreadUsage, fe_monotonic, fe_read_thread_usage


cdef class BusyPollSession(EchoSession):
    def buffer_updated(self, Py_ssize_t nbytes):
        receive(self, nbytes)
        if (<BusyPollSessions>self.registry).reads_asleep > 1:
            (<BusyPollSessions>self.registry).reads_asleep -= 1
        else:
            (<BusyPollSessions>self.registry).keep_awake()


cdef class BusyPollSessions(Sessions):
    def __init__(self, config, loop, *, policy=None, **options):
        cdef ThreadUsage now
        super().__init__(config, loop, **options)
        if config.busy_poll == "auto":
            fe_read_thread_usage(&now)
            self.policy = policy or PollPolicy(now.wall, now.cpu, now.sleeps, now.preemptions)
            self.reads_asleep = self.policy.reads_asleep
        else:
            self.limit = config.busy_poll * 1e-6
        self.poll_again = self.poll

    def new_session(self):
        return self.begin(BusyPollSession.__new__(BusyPollSession))

    cdef int keep_awake(self) except -1:
        if self.polling or self.poll_again is None:
            return 0
        if self.reads_asleep:       # that was the last of them
            self.judge()
            if self.reads_asleep:
                return 0
        self.polling = True
        self.seen = self.context.counters.reads - 1     # so that the first poll counts the read that woke the loop
        self.waited = False
        self.loop.call_soon(self.poll_again)
        return 0

    cdef void judge(self) noexcept:
        cdef ThreadUsage now
        fe_read_thread_usage(&now)
        self.policy.judge(&now)
        self.reads_asleep = self.policy.reads_asleep
        self.limit = self.policy.limit

    def poll(self):
        cdef double now = fe_monotonic()
        cdef uint64_t reads = self.context.counters.reads - self.seen
        if reads:
            self.seen += reads
            self.awake_until = now + self.limit
            if self.policy is not None and self.policy.found(reads, self.waited):
                self.judge()
            self.waited = False
        elif now < self.awake_until:
            self.waited = True
        elif self.policy is not None and self.policy.missed():
            self.judge()
        self.polling = now < self.awake_until and not self.reads_asleep and not self.closed
        if self.polling:
            self.loop.call_soon(self.poll_again)

    def close(self):
        super().close()
        self.poll_again = None      # a cycle
