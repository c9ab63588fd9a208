import itertools

from datamodules.episodes.streams import stream


def test_no_two_lists_of_numbers_have_one_stream() -> None:
    lists = [n for length in range(1, 5) for n in itertools.product((0, 1, 2), repeat=length)]
    drawn = {tuple(stream(7, *numbers).integers(2**62, size=2).tolist()) for numbers in lists}
    assert len(drawn) == len(lists)
    large = {tuple(stream(seed, 0).integers(2**62, size=2).tolist()) for seed in (5, 5 + 2**32, 2**32, 0)}
    assert len(large) == 4
    assert stream(7, 1, 2).random() == stream(7, 1, 2).random()
