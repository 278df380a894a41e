# cython: always_allow_keywords=False
"""`--busy-poll auto`: polling for the next byte where that takes no more CPU than sleeping until it comes.

A wake-up costs CPU: the thread is scheduled out and in again, on a core that has gone idle in between. Polling costs the
time until the byte comes. Which of both is less depends on the clients, the size of messages and the machine, so it is
measured: reads are counted in windows, and at the end of a window the thread's CPU time and context switches are read.

                 worth trying                  pays
     ┌──────────┐ ─────────► ┌────────┐ ───────────────► ┌─────────┐
     │ SLEEPING │            │ TRYING │                  │ POLLING │
     └──────────┘ ◄───────── └────────┘                  └─────────┘
         ▲ ▲   does not pay: for `pause` reads             │     │
         │ └───────────────────────────────────────────────┘     │
         └───────────────────────────────────────────────────────┘
            after MOST_POLLED reads, to measure again what sleeping costs

Worth trying: the loop slept before most reads of the window, used its core for a quarter of the time or more, and lost it
to no other thread. A loop that never sleeps has nothing to save. A loop that is idle most of the time would poll in vain:
the next byte is further away than a wake-up is worth.

Pays: a read takes as little CPU as it did asleep, as the mean of the trial and then as a moving average, and no other
thread needs the core. A tie goes to polling, which answers sooner: up to one part in DEARER more. Threads of the kernel
take the core now and then. A busy thread takes it every few milliseconds: MOST_INTERRUPTIONS, less one for each QUIET_TIME
of CPU, end the polling.

The first window of a trial is a warm-up, in which only WARM_UP_MISSES misses end the polling. A client that sleeps as well
answers one wake-up later, which can be later than a poll lasts. Once the server answers sooner, the client's core sleeps
less deeply and answers sooner too, but not from the first poll on.

What it can cost. A poll lasts at most 50 us. After the warm-up two misses in a row end the polling, as do two in a window
without eight hits for each more. A trial ends at the first window that is far too dear. Where polling did not pay, the
pause until the next trial becomes four times as long, up to MOST_PAUSE reads, of which a trial is below 1 %. A read in a
pause costs a subtraction and a branch.
"""

cdef enum:
    # in reads
    SLEEPING_WINDOW = 256
    POLLING_WINDOW = 64
    MOST_PAUSE = 16384
    MOST_POLLED = 65536
    # in windows
    TRIAL = 4               # after the warm-up
    AVERAGED = 16
    # a share of one in so many
    LEAST_BUSY = 4          # of the core, by a loop that sleeps
    LEAST_SLEEPS = 4        # of the reads, after a sleep
    MOST_MISSES = 8         # of the polls
    MOST_PREEMPTIONS = 64   # of the reads
    TOO_DEAR = 8            # of the cost of sleeping, above it: ends a trial early
    DEARER = 64             # of the cost of sleeping, above it: ends polling
    GROWTH = 4              # of the pause
    # in polls
    WARM_UP_MISSES = 16
cdef double LIMIT = 50e-6           # seconds
cdef double QUIET_TIME = 10e-3
cdef double MOST_INTERRUPTIONS = 2.0


cdef class PollPolicy:
    def __init__(self, double wall=0, double cpu=0, int64_t sleeps=0, int64_t preemptions=0):
        self.limit = LIMIT
        self.start = ThreadUsage(wall, cpu, sleeps, preemptions)
        self.pause = SLEEPING_WINDOW
        self.begin_window(SLEEPING_WINDOW)

    # -- what polling found: returns whether the window is over, so that judge must be called ------------------------

    cdef bint found(self, int64_t reads, bint waited) noexcept:
        self.reads += reads
        if waited:
            self.hits += 1
            self.misses_in_a_row = 0
        return self.reads >= POLLING_WINDOW

    cdef bint missed(self) noexcept:
        self.misses += 1
        self.misses_in_a_row += 1
        return self.misses_too_often()

    def on_found(self, int64_t reads, bint waited):
        return self.found(reads, waited)

    def on_missed(self):
        return self.missed()

    def on_window(self, double wall, double cpu, int64_t sleeps, int64_t preemptions):
        cdef ThreadUsage now = ThreadUsage(wall, cpu, sleeps, preemptions)
        self.judge(&now)

    # -- the decision ------------------------------------------------------------------------------------------------

    cdef void judge(self, const ThreadUsage* now) noexcept:
        cdef ThreadUsage used
        used.wall = now.wall - self.start.wall
        used.cpu = now.cpu - self.start.cpu
        used.sleeps = now.sleeps - self.start.sleeps
        used.preemptions = now.preemptions - self.start.preemptions
        self.start = now[0]
        if self.reads_asleep:
            self.judge_sleeping(&used)
        else:
            self.judge_polling(&used)

    cdef void judge_sleeping(self, const ThreadUsage* used) noexcept:
        self.sleeping_cost = used.cpu / self.reads_asleep
        if (
            used.sleeps * LEAST_SLEEPS >= self.reads_asleep
            and used.cpu * LEAST_BUSY >= used.wall
            and used.preemptions * MOST_PREEMPTIONS <= self.reads_asleep
        ):
            self.polled = self.windows = self.misses_in_a_row = 0
            self.polling_cost = 0
            self.interruptions = 0
            self.warming_up = True
            self.begin_window(0)
        else:
            self.begin_window(self.pause)

    cdef void judge_polling(self, const ThreadUsage* used) noexcept:
        self.polled += self.reads
        if not self.pays(used):
            # What ends a long time of polling, or polling that was cheaper until two misses, was an exception.
            if self.polled >= self.pause * GROWTH or self.was_cheaper():
                self.pause = max(self.pause // GROWTH, SLEEPING_WINDOW)
            else:
                self.pause = min(self.pause * GROWTH, MOST_PAUSE)
            self.begin_window(self.pause)
        elif self.polled >= MOST_POLLED:
            self.pause = SLEEPING_WINDOW
            self.begin_window(SLEEPING_WINDOW)
        else:
            self.warming_up = False
            self.misses_in_a_row = 0
            self.begin_window(0)

    cdef bint pays(self, const ThreadUsage* used) noexcept:
        cdef double more
        self.interruptions = max(self.interruptions - used.cpu / QUIET_TIME, 0.0) + used.preemptions
        if not self.warming_up:
            self.windows += 1
            self.polling_cost += (
                (used.cpu / max(self.reads, 1) - self.polling_cost) / min(self.windows, <int64_t>AVERAGED)
            )
        if self.interruptions > MOST_INTERRUPTIONS or self.misses_too_often():
            return False
        more = self.sleeping_cost / (DEARER if self.windows >= TRIAL else TOO_DEAR)
        return self.warming_up or self.polling_cost <= self.sleeping_cost + more

    cdef bint was_cheaper(self) noexcept:
        return (
            self.windows >= TRIAL
            and self.polling_cost < self.sleeping_cost
            and self.interruptions <= MOST_INTERRUPTIONS
        )

    cdef bint misses_too_often(self) noexcept:
        if self.warming_up:
            return self.misses > WARM_UP_MISSES
        return self.misses_in_a_row > 1 or self.misses > 1 + self.hits // MOST_MISSES

    cdef void begin_window(self, int64_t reads_asleep) noexcept:
        self.reads_asleep = reads_asleep
        self.reads = self.hits = self.misses = 0
