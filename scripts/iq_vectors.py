#!/usr/bin/env python3
"""Make the vectors of quantize/tests/blocks.rs for IQ2 and IQ3, which are only decoded: random valid blocks and their values.

    scripts/iq_vectors.py [quantize/tests/vectors/quant]

For each type it writes TYPE.rand.q and TYPE.rand.f32. Every entry of a type's grid occurs once, in an order of its own, so that none can be
wrong unseen. Needs gguf from PyPI.
"""

import pathlib
import sys

import gguf
import numpy

random = numpy.random.default_rng(2)


def some(*shape):
    """Random bytes."""
    return random.integers(0, 256, shape, dtype=numpy.uint8)


def numbers(entries, each):
    """The numbers of all entries of a grid, in blocks with `each` of them."""
    return random.permutation(entries).reshape(-1, each)


def as_bytes(array, kind):
    return numpy.ascontiguousarray(array.astype(kind)).view(numpy.uint8).reshape(len(array), -1)


def iq2_xxs():
    entries = as_bytes(numbers(256, 32), "u1").reshape(-1, 8, 4)
    return [numpy.concatenate([entries, some(len(entries), 8, 4)], axis=2).reshape(len(entries), -1)]


def iq2_xs():
    entries = numbers(512, 32)
    return [as_bytes(entries | random.integers(0, 128, entries.shape) << 9, "<u2"), some(len(entries), 8)]


def iq2_s():
    entries = numbers(1024, 32)
    high = (entries >> 8).reshape(-1, 8, 4) << numpy.array([0, 2, 4, 6])
    return [as_bytes(entries & 255, "u1"), some(len(entries), 32), as_bytes(high.sum(2), "u1"), some(len(entries), 8)]


def iq3_xxs():
    entries = numbers(256, 64)
    return [as_bytes(entries, "u1"), some(len(entries), 32)]


def iq3_s():
    entries = numbers(512, 64)
    high = (entries >> 8).reshape(-1, 8, 8) << numpy.arange(8)
    return [as_bytes(entries & 255, "u1"), as_bytes(high.sum(2), "u1"), some(len(entries), 32), some(len(entries), 4)]


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "quantize/tests/vectors/quant")
    for make in [iq2_xxs, iq2_xs, iq2_s, iq3_xxs, iq3_s]:
        name = make.__name__.upper()
        parts = make()
        scales = random.uniform(-0.1, 0.1, (len(parts[0]), 1))
        blocks = numpy.concatenate([as_bytes(scales, "<f2"), *parts], axis=1)
        values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
        (folder / f"{name}.rand.q").write_bytes(blocks.tobytes())
        (folder / f"{name}.rand.f32").write_bytes(values.astype("<f4").tobytes())


if __name__ == "__main__":
    main()
