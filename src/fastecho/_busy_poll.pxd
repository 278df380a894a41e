from libc.stdint cimport int64_t, uint64_t

from ._poll_policy cimport PollPolicy
from ._session cimport EchoSession, Sessions


cdef class BusyPollSession(EchoSession):
    pass


cdef class BusyPollSessions(Sessions):
    cdef PollPolicy policy          # of `auto`; None: poll after each byte
    cdef int64_t reads_asleep       # until the policy judges; 0: poll after each byte
    cdef double limit               # seconds without a byte, then the loop sleeps
    cdef double awake_until         # extended by each read
    cdef uint64_t seen              # reads at the last poll
    cdef bint waited                # a poll has found nothing since the last read
    cdef object poll_again          # the bound method poll, made once
    cdef readonly bint polling

    cdef int keep_awake(self) except -1
    cdef void judge(self) noexcept
