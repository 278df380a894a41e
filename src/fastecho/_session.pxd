"""One connection, from accept to forgotten.

                 connection_made
                        │
           no room ┌────┴────┐
          ┌────────┤ admit() │
          ▼        └────┬────┘
       PARKED ─ room ──►│
                        ▼   terminator, idle, quiet in a drain         FIN sent
                      OPEN ───────────► FLUSHING ──────────────► LINGERING    (nothing queued: at once)
                        │   a tail is queued        it is flushed    │  reads and discards
                        │ peer's FIN;                                │ peer's FIN, linger_timeout
                        │ RST, error, write_timeout, drain_timeout   │
                        └──────────────────► CLOSING ◄───────────────┘
                                                │
                                         connection_lost
"""

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from ._buffer cimport Slot
from ._group cimport Group, Member, Shared


cdef enum State:
    OPEN
    PARKED          # accepted when there was no room: not read from until there is
    FLUSHING        # its end is decided, a tail is still queued
    LINGERING       # FIN sent, the peer's not seen
    CLOSING         # the transport is closed or aborted


cdef enum End:      # in the order of the end_* counters
    NONE
    PEER_EOF
    TERMINATOR
    RESET
    IDLE
    WRITE_TIMEOUT
    DRAIN
    DRAIN_TIMEOUT
    ERROR
    REFUSED
    FAULT


cdef enum Place:    # in the count of active sessions
    NOWHERE
    PENDING         # accepted, in its TLS handshake
    WAITING
    ADMITTED


cdef class EchoSession(Member):
    cdef Shared* shared             # of the group
    cdef object transport
    # the read under way, and memory held beyond it
    cdef Slot* reading              # between get_buffer and buffer_updated
    cdef Slot* slot                 # lent to the transport, parked with, or pinned
    cdef Py_ssize_t tail            # how much of it waits
    # flow
    cdef int fd                     # -1 as soon as it may not be ours any more
    cdef unsigned char state
    cdef unsigned char end
    cdef unsigned char place
    cdef unsigned char scan_state
    cdef uint16_t full              # full reads in a row
    cdef unsigned char queued       # flag: the transport has bytes of ours that the kernel has not
    cdef unsigned char write_paused # flag: between pause_writing and resume_writing
    cdef unsigned char yielding     # flag: lets the others have a turn
    cdef unsigned char limits_set   # flag: the transport knows our high-water mark
    cdef uint32_t number            # in the log
    # the clocks of the sweep
    cdef uint64_t sent              # bytes handed to the kernel or the transport
    cdef int64_t taken              # of those, how many the peer's side had acknowledged at the last sweep
    cdef double active_at           # last byte in
    cdef double progress_at         # when last nothing was due, or the peer had taken something
    cdef double acknowledged_at     # after our FIN: since when nothing is due; 0: something is

    cdef int process(self, Slot* slot, Py_ssize_t size) except -1
    cdef int send_rest(self, Slot* slot, Py_ssize_t sent, Py_ssize_t due) except -1
    cdef int hand_over(self, object data, Py_ssize_t size) except -1
    cdef int flushed(self) except -1
    cdef int not_open(self, Py_ssize_t size) except -1
    cdef int broken(self, int error) except -1
    cdef int yield_share(self) except -1
    cdef int pause(self) except -1
    cdef int resume(self) except -1
    cdef int finish(self, End cause) except -1
    cdef int send_fin(self) except -1
    cdef int close(self) except -1
    cdef int reset(self, End cause) except -1
    cdef void release_slot(self) noexcept
    cdef void not_pending(self) noexcept
    cdef str cause(self)
    cdef int descriptor(self) except -2
    cdef Py_ssize_t outstanding(self) except -1
    cdef int sweep_closing(self, double now, Py_ssize_t due) except -1
    cdef int say(self, str event) except -1


cdef class SessionGroup(Group):
    cdef uint32_t created

    cdef EchoSession begin(self, EchoSession session)


cdef inline int take_in(EchoSession self, Py_ssize_t nbytes) except -1:
    """What buffer_updated does, here and in the sessions made of this one."""
    cdef Slot* slot = self.reading
    if slot == NULL or <size_t>nbytes > <size_t>self.shared.buffer_size:
        raise ValueError(f"buffer_updated({nbytes}): not after get_buffer, or more than it gave")
    self.reading = NULL
    self.shared.count.reads += 1
    self.shared.count.bytes_in += nbytes
    self.active_at = self.shared.now
    return self.process(slot, nbytes)
