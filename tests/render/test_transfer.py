"""The words of a download, by a clock of the test's own."""

from mlxnb.render.transfer import Transfer


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_bytes_then_rate_and_time_left():
    clock = Clock()
    transfer = Transfer(clock)
    assert transfer.words(0, 0) == "asking what there is"
    assert transfer.words(0, 10_000_000_000) == "0 B of 10 GB"
    clock.now = 2
    assert transfer.words(1_000_000_000, 10_000_000_000) == "1 GB of 10 GB · 500 MB/s · 18 s left"
    clock.now = 4
    assert transfer.words(10_000_000_000, 10_000_000_000) == "10 GB of 10 GB · 2.5 GB/s"


def test_the_rate_is_that_of_the_last_seconds():
    clock = Clock()
    transfer = Transfer(clock)
    for second in range(101):
        clock.now = second
        done = min(second, 50) * 10**8  # the connection stalls half way
        words = transfer.words(done, 10**10)
        if second == 50:
            assert words == "5 GB of 10 GB · 100 MB/s · 50 s left"
    assert words == "5 GB of 10 GB · 0 B/s"


def test_what_was_there_before_counts_as_done_and_not_as_fast():
    clock = Clock()
    transfer = Transfer(clock)
    transfer.words(9 * 10**9, 10**10)
    clock.now = 10
    assert transfer.words(91 * 10**8, 10**10) == "9.1 GB of 10 GB · 10 MB/s · 1 min 30 s left"
