"""The terminator scan: inline C over raw memory, no sockets, no asyncio.

A stream arrives in cuts, and a terminator may straddle any number of them. What must be remembered between two cuts is
one number: the length of the longest prefix of the terminator that the stream so far ends with (the state of the
Knuth-Morris-Pratt automaton; Knuth, Morris, Pratt, SIAM J. Comput. 6(2), 1977). With it no byte is scanned twice,
so the scan is linear in the bytes received for every segmentation:

* `anywhere`: from state 0 memchr jumps to the next byte that can begin the terminator, the automaton goes on from there;
* `tail`: only the last `length` bytes of a read can matter to its end, so at most those are run through the automaton.
"""

from libc.string cimport memchr

cdef enum:
    TERMINATOR_MAX = 64


cdef struct Pattern:
    unsigned char length                        # 0: no terminator, the stream never ends by one
    unsigned char anywhere                      # 0: tail
    unsigned char text[TERMINATOR_MAX]
    unsigned char border[TERMINATOR_MAX + 1]    # border[k]: longest proper prefix of text[:k] that also ends it


cdef inline void pattern_init(Pattern* pattern, const unsigned char* text, unsigned char length, bint anywhere) noexcept nogil:
    cdef unsigned int k = 0, i
    pattern.length = length
    pattern.anywhere = anywhere
    pattern.border[0] = pattern.border[1] = 0
    for i in range(length):
        pattern.text[i] = text[i]
    for i in range(1, length):
        while k and text[k] != text[i]:
            k = pattern.border[k]
        if text[k] == text[i]:
            k += 1
        pattern.border[i + 1] = k


cdef inline unsigned int pattern_step(const Pattern* pattern, unsigned int state, unsigned char byte) noexcept nogil:
    if state == pattern.length:
        state = pattern.border[state]
    while state and pattern.text[state] != byte:
        state = pattern.border[state]
    return state + (pattern.text[state] == byte)


cdef inline Py_ssize_t scan_tail(const Pattern* pattern, unsigned char* state,
                                 const unsigned char* data, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef unsigned int reached = state[0]
    if size >= pattern.length:
        i = size - pattern.length
        reached = 0
    while i < size:
        reached = pattern_step(pattern, reached, data[i])
        i += 1
    state[0] = reached
    return size if reached == pattern.length else -1


cdef inline Py_ssize_t scan_anywhere(const Pattern* pattern, unsigned char* state,
                                     const unsigned char* data, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef unsigned int reached = state[0]
    cdef const unsigned char* found
    while i < size:
        if reached == 0:
            found = <const unsigned char*>memchr(data + i, pattern.text[0], size - i)
            if found == NULL:
                break
            i = found - data
        reached = pattern_step(pattern, reached, data[i])
        i += 1
        if reached == pattern.length:
            state[0] = 0
            return i
    state[0] = reached
    return -1


cdef inline Py_ssize_t scan(const Pattern* pattern, unsigned char* state,
                            const unsigned char* data, Py_ssize_t size) noexcept nogil:
    """-1 while the stream goes on; at its end, how many of these `size` bytes are due to be echoed."""
    if pattern.length == 0 or size <= 0:
        return -1
    if pattern.anywhere:
        return scan_anywhere(pattern, state, data, size)
    if pattern.length == 1:
        return size if data[size - 1] == pattern.text[0] else -1
    return scan_tail(pattern, state, data, size)
