"""What the fixture keeps of a connection, and the session that keeps it.

    Record      both directions of one connection: bytes up to a limit, chunks, totals; one for either kind of session
    Watch       who waits for something to happen on a server; told after each event, free while nobody waits
    RecordingSession    an EchoSession that records, answers as it is told, and can be steered
"""

from libc.stdint cimport uint64_t

from .._session cimport EchoSession, SessionGroup


cdef struct Cut:                    # one read, or one send
    uint64_t offset
    uint64_t size
    double time


cdef struct Stream:                 # one direction
    unsigned char* data
    size_t length
    size_t room
    Cut* cuts
    size_t count
    size_t cut_room
    uint64_t total


cdef class Watch:
    cdef int waiting
    cdef list wakers

    cdef int notify(self) except -1


cdef class Record:
    cdef Stream streams[2]          # in, out
    cdef Watch watch
    cdef readonly size_t limit

    cdef int add(self, int direction, const unsigned char* data, Py_ssize_t size) except -1
    cdef int keep(self, Stream* stream, const unsigned char* data, Py_ssize_t size) except -1


cdef class RecordingSession(EchoSession):
    cdef Record record
    cdef object view                # the Session that users see: told of made, peer_closed, failed, closed
    cdef list early                 # what a test wants of it before it begins; None once it has begun
    cdef list stash                 # read although paused
    cdef bytes banner               # the greeting that was in force when it was accepted
    cdef bint held                  # a test has paused its reading
    cdef bint half                  # a test has had the FIN sent: reads on without a bound

    cdef int answer(self, const unsigned char* data, Py_ssize_t size) except -1
    cdef int push(self, bytes data) except -1
    cdef int begin_open(self) except -1
    cdef int unhold(self) except -1


cdef class RecordingGroup(SessionGroup):
    cdef bint echoes                # else the view is asked for the answer
    cdef bytes banner
