cimport cython
from libc.stdint cimport int64_t

from ._sys cimport ThreadUsage


@cython.final
cdef class PollPolicy:
    cdef readonly int64_t reads_asleep  # until judge, in SLEEPING; 0: the loop polls after each read
    cdef readonly double limit      # seconds that a poll may last without a byte
    # the window under way
    cdef ThreadUsage start
    cdef int64_t reads              # while polling
    cdef int64_t hits               # polls that a byte ended
    cdef int64_t misses             # polls that the limit ended
    cdef int64_t misses_in_a_row    # in earlier windows too
    cdef bint warming_up            # the first window of a trial
    # what earlier windows have shown
    cdef double sleeping_cost       # CPU seconds a read
    cdef double polling_cost
    cdef double interruptions       # by other threads since polling began, less one for each QUIET_TIME
    cdef int64_t windows            # since polling began
    cdef int64_t polled             # reads since polling began
    cdef int64_t pause              # reads to sleep for when polling does not pay

    cdef bint found(self, int64_t reads, bint waited) noexcept
    cdef bint missed(self) noexcept
    cdef void judge(self, const ThreadUsage* now) noexcept
    cdef void judge_sleeping(self, const ThreadUsage* used) noexcept
    cdef void judge_polling(self, const ThreadUsage* used) noexcept
    cdef bint pays(self, const ThreadUsage* used) noexcept
    cdef bint was_cheaper(self) noexcept
    cdef bint misses_too_often(self) noexcept
    cdef void begin_window(self, int64_t reads_asleep) noexcept
