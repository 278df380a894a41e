from libc.stdint cimport uint64_t

from ._session cimport EchoSession, SessionGroup


cdef class SpinningSession(EchoSession):
    pass


cdef class SpinningGroup(SessionGroup):
    cdef double busy_poll           # seconds
    cdef double awake_until         # put off by each read
    cdef uint64_t seen              # reads at the last look
    cdef object look_again          # the bound method spin, made once
    cdef readonly bint spinning

    cdef int keep_awake(self) except -1
