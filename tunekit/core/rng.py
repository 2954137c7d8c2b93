"""Chance as a pure function: the same key gives the same number, on every machine and in every process.

A generator has a state, and a state can be lost, shared or drawn from in another order. A keyed hash has none: the
number that trial 17 draws for ``lr`` depends on the seed, 17 and ``lr``, and on nothing else.

Source: xxh3-64 (Collet), its upper 53 bits as a fraction, which is how ``random.random`` fills a double.
"""

from __future__ import annotations

import xxhash


def uniform(seed: int, *key: str | int) -> float:
    """Return a number in [0, 1) that depends only on ``seed`` and ``key``.

    Args:
        seed: The seed of the experiment, any integer.
        key: What the number is for. ``1`` and ``"1"`` are different keys, and so are ``("ab",)`` and ``("a", "b")``.
    """
    text = repr((seed, *key)).encode()
    return (xxhash.xxh3_64_intdigest(text) >> 11) * 2.0**-53
