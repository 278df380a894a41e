"""Questions to the kernel, asked in C: see the stub."""

from .._sys cimport (
    fe_close_means_reset, fe_inode, fe_left, fe_monotonic, fe_readable, fe_unacknowledged, fe_would_block,
)


def monotonic():
    return fe_monotonic()


def unacknowledged(int fd):
    return fe_unacknowledged(fd)


def unread(int fd):
    return fe_readable(fd)


def left(int fd):
    return (None, "eof", "reset")[fe_left(fd)]


def inode(int fd):
    return fe_inode(fd)


def close_means_reset(int fd):
    fe_close_means_reset(fd)


def would_block(int error):
    return fe_would_block(error)
