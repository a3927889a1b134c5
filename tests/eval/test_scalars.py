"""Random streams are independent and fixed."""

from mipoison.eval.scalars import derive_seed


def test_every_seed_and_purpose_has_a_stream_of_its_own():
    streams = {derive_seed(seed, purpose) for seed in range(50) for purpose in ("target", "key")}
    assert len(streams) == 100
    assert all(0 <= stream < 2**63 for stream in streams)


def test_streams_are_the_same_on_every_machine():
    assert derive_seed(100, "target") == derive_seed(100, "target")
    assert derive_seed(0, "split", "digits") == 6157020015606695907
