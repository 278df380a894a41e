"""Recordings, and the session that makes them.

    Record              both directions of one connection: bytes up to a limit, chunks, totals
    Watch               the waits of a server: called after each event, free while no test waits
    RecordingSession    an EchoSession that records, answers as its ReplyMode says, and can be controlled by a test
"""

from libc.stdint cimport uint64_t

from .._session cimport EchoSession, Sessions


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
    cdef int store(self, Stream* stream, const unsigned char* data, Py_ssize_t size) except -1


cdef class ReplyMode:
    """One object for all sessions of a server, so that a new `reply` holds for open connections too."""
    cdef public bint echoes         # else the log is asked for the answer


cdef class RecordingSession(EchoSession):
    cdef Record record
    cdef object log                 # the ConnectionLog: notified of secured, client_closed, failed, closed
    cdef ReplyMode reply_mode
    cdef list early                 # calls of a test before connection_made; None afterwards
    cdef list stash                 # read in spite of a pause
    cdef bytes greeting             # as of the accept
    cdef bint paused                # a test has paused reading
    cdef bint half                  # a test has had the FIN sent: reads on without a time-out

    cdef int answer(self, const unsigned char* data, Py_ssize_t size) except -1
    cdef int push(self, bytes data) except -1
    cdef int begin_open(self) except -1
    cdef int resume_paused(self) except -1
