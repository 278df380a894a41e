"""--busy-poll auto: what the policy decides for a simulated thread and its bytes. No clock is read."""

from fastecho._poll_policy import PollPolicy

US = 1e-6
WORK, WAKE_UP = 9 * US, 13 * US
ASLEEP = WORK + WAKE_UP  # CPU a read


class Thread:
    """The thread of a loop that the policy controls, and beside it (`asleep`) the CPU of a loop that always sleeps.

    preempted_after: another thread takes the core after this many reads without a sleep.
    """

    def __init__(self, preempted_after: int | None = None) -> None:
        self.policy = PollPolicy()
        self.left = self.policy.reads_asleep
        self.preempted_after = preempted_after
        self.awake = 0  # reads since the last sleep
        self.wall = self.cpu = self.asleep = 0.0
        self.sleeps = self.preemptions = 0
        self.reads = self.polled = self.missed = 0

    def read(self, gap: float) -> None:
        """A byte comes `gap` seconds after the last one was echoed."""
        self.reads += 1
        self.asleep += WORK + (WAKE_UP if gap else 0)
        if self.left:
            self.sleep(gap)
            self.left -= 1
            if not self.left:
                self.judge()
            return
        self.polled += 1
        if gap <= self.policy.limit:
            self.spend(gap)
            self.work()
            over = self.policy.on_found(1, gap > 0)
        else:
            self.missed += 1
            self.spend(self.policy.limit)
            if self.policy.on_missed():
                self.judge()
            self.sleep(gap - self.policy.limit)
            over = not self.left and self.policy.on_found(1, False)
        if over:
            self.judge()

    def sleep(self, gap: float) -> None:
        if gap:
            self.sleeps += 1
            self.awake = 0
            self.wall += gap
            self.spend(WAKE_UP)
        self.work()

    def work(self) -> None:
        self.spend(WORK)
        self.awake += 1
        if self.preempted_after is not None and self.awake >= self.preempted_after:
            self.awake = 0
            self.preemptions += 1
            self.wall += 0.004

    def spend(self, seconds: float) -> None:
        self.wall += seconds
        self.cpu += seconds

    def judge(self) -> None:
        self.policy.on_window(self.wall, self.cpu, self.sleeps, self.preemptions)
        self.left = self.policy.reads_asleep

    @property
    def share_polled(self) -> float:
        return self.polled / self.reads

    @property
    def cost(self) -> float:
        """CPU relative to that of a loop that always sleeps."""
        return self.cpu / self.asleep


def serving(*gaps: float, reads: int = 100_000, thread: Thread | None = None) -> Thread:
    """A thread that has served `reads` bytes; the gaps before them, in microseconds, come round again and again."""
    thread = thread or Thread()
    for k in range(reads):
        thread.read(gaps[k % len(gaps)] * US)
    return thread


def test_it_polls_where_bytes_come_sooner_than_a_wake_up_is_worth():
    thread = serving(10)
    assert thread.share_polled > 0.99
    assert thread.cost < 0.9
    assert thread.missed == 0


def test_it_never_polls_for_bytes_that_are_far_apart():
    for gap in (200, 5000):
        assert serving(gap).polled == 0


def test_it_never_polls_where_the_loop_does_not_sleep():
    assert serving(0).polled == 0
    assert serving(*[0] * 9, 10).polled == 0, "nine of ten reads find their bytes waiting"


def test_polls_that_miss_cost_less_than_one_percent():
    thread = serving(55)  # a loop that is busy enough to try
    assert thread.missed > 0
    assert thread.cost < 1.01


def test_polls_that_hit_too_late_cost_less_than_one_percent():
    thread = serving(20)  # within the limit, which is the CPU of a whole read, but dearer than a wake-up
    assert thread.polled > 0
    assert thread.missed == 0
    assert thread.cost < 1.01


def test_about_the_cost_of_a_wake_up_polling_never_costs_two_percent_more():
    for gap in (12.5, 13, 13.2, 13.5, 14, 15, 16):
        assert serving(gap).cost < 1.02


def test_a_hit_now_and_then_does_not_pay():
    for gaps in ((10, 55), (10, 10, 10, 40), (10, 20, 30, 40)):
        thread = serving(*gaps)
        assert thread.polled > 0
        assert thread.cost < 1.01


def test_bursts_pay_for_the_miss_at_their_end():
    thread = serving(*[10] * 39, 1000)
    assert thread.share_polled > 0.9
    assert thread.cost < 0.95


def test_bursts_with_long_pauses_are_left_alone():
    assert serving(*[10] * 39, 10_000).polled == 0


def test_two_misses_end_the_polling():
    thread = serving(10)
    assert thread.missed == 0
    serving(5000, reads=1000, thread=thread)
    assert thread.policy.reads_asleep
    assert thread.missed == 2


def test_a_client_that_answers_sooner_after_some_polls_is_worth_their_misses():
    thread = Thread()
    polled = 0  # since the server has slept by itself
    for _ in range(100_000):
        thread.read((10 if polled > 8 else 55) * US)
        polled = 0 if thread.left else polled + 1
    assert 8 <= thread.missed < 30
    assert thread.share_polled > 0.98
    assert thread.cost < 0.9


def test_it_polls_again_when_the_load_comes_back():
    thread = serving(5000, reads=10_000)
    assert thread.polled == 0
    serving(10, reads=10_000, thread=thread)
    assert thread.polled > 9_000


def test_it_leaves_the_core_to_another_thread():
    thread = serving(10, thread=Thread(preempted_after=200))
    assert thread.preemptions > 0
    assert thread.share_polled < 0.08
    assert thread.cost < 1.0


def test_a_core_that_is_lost_while_the_loop_sleeps_is_not_polled_on():
    thread = Thread()
    for _ in range(10_000):
        thread.preemptions += 1
        thread.read(10 * US)
    assert thread.polled == 0


def test_a_rare_preemption_interrupts_the_polling_shortly():
    thread = serving(10, thread=Thread(preempted_after=5000))
    assert thread.preemptions > 10
    assert thread.share_polled > 0.9


def test_it_measures_again_what_sleeping_costs(monkeypatch):
    thread = serving(10)
    assert thread.share_polled > 0.99
    # From here on a wake-up costs next to nothing.
    monkeypatch.setitem(globals(), "WAKE_UP", 1 * US)
    serving(10, reads=100_000, thread=thread)
    polled = thread.polled
    serving(10, reads=100_000, thread=thread)
    assert (thread.polled - polled) / 100_000 < 0.1


def test_a_poll_is_bounded_where_a_read_takes_long(monkeypatch):
    monkeypatch.setitem(globals(), "WORK", 500 * US)
    thread = serving(40, 40, 40, 45, reads=300)
    assert 0 < thread.policy.limit < 51 * US
