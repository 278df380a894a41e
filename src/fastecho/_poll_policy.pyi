"""`--busy-poll auto`: when polling for the next byte takes less CPU than sleeping until it comes."""

from typing_extensions import final

@final
class PollPolicy:
    """Decides whether a loop polls or sleeps, from what happened to its reads and what its thread has used.

    It reads no clock. It is told what polling found and, at the end of each window of reads, what the thread has used.

    Args:
        wall: the monotonic time in seconds.
        cpu: seconds of CPU time that the thread has used.
        sleeps: voluntary context switches of the thread.
        preemptions: involuntary context switches of the thread.
    """

    def __init__(self, wall: float = 0, cpu: float = 0, sleeps: int = 0, preemptions: int = 0, /) -> None: ...
    @property
    def reads_asleep(self) -> int:
        """The number of reads that the loop sleeps before, until `on_window`; 0: the loop polls after each read."""
    @property
    def limit(self) -> float:
        """Seconds to poll for the next byte."""
    def on_found(self, reads: int, waited: bool, /) -> bool:
        """Polling found bytes. Returns whether the window is over: `on_window` must be called.

        Args:
            reads: the number of reads.
            waited: whether a poll found nothing before.
        """
    def on_missed(self, /) -> bool:
        """Polling found nothing for `limit`. Returns whether the window is over: `on_window` must be called."""
    def on_window(self, wall: float, cpu: float, sleeps: int, preemptions: int, /) -> None:
        """Decide what the loop does in the next window, from the same figures as at the start."""
