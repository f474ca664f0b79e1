"""Chance that repeats itself: it depends on the seed and on what is asked, not on the order."""

from hashlib import blake2b


def draw(seed: int, purpose: str, number: int) -> float:
    """Return a number strictly between 0 and 1, the same for the same three arguments.

    A hash instead of a generator: tasks may be accepted in any order, and each still gets its own.
    """
    digest = blake2b(f"{seed}/{purpose}/{number}".encode(), digest_size=8).digest()
    # 52 bits and a half: the result can neither round to 0 nor to 1.
    return ((int.from_bytes(digest) >> 12) + 0.5) / 2**52
