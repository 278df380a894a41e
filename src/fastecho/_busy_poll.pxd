from libc.stdint cimport uint64_t

from ._session cimport EchoSession, Sessions


cdef class BusyPollSession(EchoSession):
    pass


cdef class BusyPollSessions(Sessions):
    cdef double busy_poll           # seconds
    cdef double awake_until         # extended by each read
    cdef uint64_t seen              # reads at the last poll
    cdef object poll_again          # the bound method poll, made once
    cdef readonly bint polling

    cdef int keep_awake(self) except -1
