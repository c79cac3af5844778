"""Randomness addressed by a key: the same key gives the same number, whatever was drawn before.

Trial i of a search must not depend on how many trials ran beside it or were resumed, so nothing here
has a state; compare counter-based generators (Salmon et al., "Parallel Random Numbers: As Easy as
1, 2, 3", SC 2011).
"""

from hashlib import blake2b

_UNIFORM_BITS = 53  # what a float's mantissa holds


def keyed_int(*key: int | str) -> int:
    """Return an integer in [0, 2**63) that depends on `key` alone."""
    text = "\x1f".join(map(str, key)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1


def keyed_uniform(*key: int | str) -> float:
    """Return a float in [0, 1) that depends on `key` alone."""
    return (keyed_int(*key) >> (63 - _UNIFORM_BITS)) / float(1 << _UNIFORM_BITS)
