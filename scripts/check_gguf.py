"""Checks that the Python package `gguf` reads a GGUF file the way fourfold does.

    check_gguf.py FILE [--inspect INSPECT.json] [--like SOURCE]

--inspect: the output of `fourfold inspect FILE --json`; metadata and tensors must agree with what Python reads.
--like:    the file that FILE was quantized from; names and shapes must be the same, tensors of unchanged type must have
           the same bytes, and the others must be close to the source once decoded.
"""

import argparse
import json
import sys

import gguf
import numpy


def value_of(field):
    """The value of a metadata field as plain Python values."""
    value = field.contents()
    return value.tolist() if isinstance(value, numpy.ndarray) else value


def metadata_of(reader):
    return {
        name: value_of(field)
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }


def same(left, right):
    if isinstance(left, float) or isinstance(right, float):
        return numpy.float32(left) == numpy.float32(right)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def check_inspect(reader, path):
    with open(path, encoding="utf-8") as file:
        inspected = json.load(file)
    metadata = metadata_of(reader)
    assert metadata.keys() == inspected["metadata"].keys(), "the keys differ"
    for key, value in metadata.items():
        assert same(value, inspected["metadata"][key]), f"{key} differs"
    assert len(reader.tensors) == len(inspected["tensors"]), "the numbers of tensors differ"
    for tensor, ours in zip(reader.tensors, inspected["tensors"]):
        found = (tensor.name, tensor.tensor_type.name, tensor.shape.tolist(), int(tensor.n_bytes), int(tensor.data_offset))
        expected = (ours["name"], ours["type"], ours["shape"], ours["bytes"], ours["offset"])
        assert found == expected, f"{found} is not {expected}"


def check_like(reader, path):
    sources = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert sources.keys() == {tensor.name for tensor in reader.tensors}, "the tensors differ"
    for tensor in reader.tensors:
        source = sources[tensor.name]
        assert tensor.shape.tolist() == source.shape.tolist(), f"{tensor.name}: the shapes differ"
        if tensor.tensor_type == source.tensor_type:
            assert numpy.array_equal(tensor.data, source.data), f"{tensor.name}: the bytes differ"
            continue
        decoded = gguf.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float64)
        original = gguf.dequantize(source.data, source.tensor_type).astype(numpy.float64)
        error = numpy.linalg.norm(decoded - original) / max(numpy.linalg.norm(original), 1e-30)
        assert error < 0.35, f"{tensor.name}: relative error {error:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--inspect")
    parser.add_argument("--like")
    arguments = parser.parse_args()
    reader = gguf.GGUFReader(arguments.file)
    try:
        if arguments.inspect:
            check_inspect(reader, arguments.inspect)
        if arguments.like:
            check_like(reader, arguments.like)
    except AssertionError as error:
        sys.exit(f"{arguments.file}: {error}")
    print(f"{arguments.file}: {len(reader.tensors)} tensors, {len(metadata_of(reader))} keys agree")


if __name__ == "__main__":
    main()
