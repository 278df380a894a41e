"""One connection, from the accept until it is removed from the registry.

             connection_made
                    │
                    ▼   terminator, idle, quiet in a drain         FIN sent
                  OPEN ───────────► FLUSHING ──────────────► LINGERING    (nothing queued: at once)
                    │   a tail is queued        it is flushed    │  reads and discards
                    │ client's FIN;                              │ client's FIN, linger_timeout
                    │ RST, error, write_timeout, drain_timeout   │
                    └──────────────────► CLOSING ◄───────────────┘
                                            │
                                     connection_lost
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from ._buffer cimport Buffer
from ._counters cimport End
from ._sessions cimport SessionBase, SessionContext, SessionRegistry


cdef enum State:
    OPEN
    FLUSHING        # its end is decided, a tail is still queued
    LINGERING       # FIN sent, the client's not seen
    CLOSING         # the transport is closed or aborted


cdef class EchoSession(SessionBase):
    # used for each message: together, on few cache lines
    cdef SessionContext* context    # of the registry
    cdef uint64_t sent              # bytes handed to the kernel or the transport
    cdef int fd                     # -1 as soon as it may not be ours any more
    cdef unsigned char state
    cdef unsigned char scan_state
    cdef unsigned char queued       # flag: the transport has bytes of ours that the kernel has not
    # the rest
    cdef unsigned char end
    cdef unsigned char pending      # flag: accepted, connection_made still to come
    cdef unsigned char write_paused # flag: between pause_writing and resume_writing
    cdef unsigned char yielding     # flag: reading is paused, so that the loop serves the other connections
    cdef unsigned char resuming     # flag: the transport is to read again; it stays set where there was no memory for it
    cdef unsigned char limits_set   # flag: the transport knows our high-water mark
    cdef unsigned char aborted      # flag: connection_lost comes in the next turn of the loop
    cdef unsigned char overdue      # sweeps since it should have come
    cdef uint16_t full_reads        # in a row
    cdef uint32_t last_full_read    # which of the pool's reads
    cdef uint32_t number            # in the log
    cdef Buffer* buffer             # held for the transport, or pinned
    cdef Py_ssize_t tail            # how much of it waits
    cdef object transport
    cdef object ssl_object          # with TLS, else None
    cdef public object client       # its address as a proxy named it, or None

    cdef int process(self, Buffer* buffer, Py_ssize_t size) except -1
    cdef int send_rest(self, Buffer* buffer, Py_ssize_t sent, Py_ssize_t to_echo) except -1
    cdef int write_tail(self, object data, Py_ssize_t size) except -1
    cdef int flush_done(self) except -1
    cdef int receive_after_end(self, Py_ssize_t size) except -1
    cdef int send_failed(self, int error) except -1
    cdef int yield_if_due(self, Py_ssize_t size) except -1
    cdef int yield_after_full_reads(self) except -1
    cdef int yield_to_others(self) except -1
    cdef int pause_reading(self) except -1
    cdef int resume_reading(self) except -1
    cdef int end_session(self, End cause) except -1
    cdef int send_fin(self) except -1
    cdef int begin(self) except -1
    cdef int close(self) except -1
    cdef int reset(self, End cause) except -1
    cdef void release_buffer(self) noexcept
    cdef void clear_pending(self) noexcept
    cdef bint is_admitted(self) except -1
    cdef str cause(self)
    cdef int descriptor(self) except -2
    cdef Py_ssize_t write_queue(self) except -2
    cdef Py_ssize_t unacknowledged(self) except -1
    cdef int recover(self) except -1
    cdef int abort_transport(self) except -1
    cdef int lost(self, object exception) except -1
    cdef bint connection_lost_is_due(self) except -1
    cdef int give_transport_up(self) except -1
    cdef int sweep_closing(self, double now, Py_ssize_t unacknowledged) except -1
    cdef int log_event(self, str event) except -1


cdef class Sessions(SessionRegistry):
    cdef uint32_t created
    cdef object transport_type      # of the last connection
    cdef object get_extra_info      # the function of that type that returns the socket

    cdef object socket_of(self, object transport)
    cdef EchoSession begin(self, EchoSession session)


cdef inline int receive(EchoSession self, Py_ssize_t nbytes) except -1:
    """What buffer_updated does, here and in the sessions made of this one."""
    cdef Buffer* buffer = self.context.reading[0]
    if buffer == NULL or <size_t>nbytes > <size_t>self.context.buffer_size:
        raise ValueError(f"buffer_updated({nbytes}): must follow get_buffer, with at most the size of its buffer")
    self.context.reading[0] = NULL
    self.context.counters.reads += 1
    self.context.counters.bytes_in += nbytes
    self.progress.active_at = self.context.now
    return self.process(buffer, nbytes)
