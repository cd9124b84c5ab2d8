"""What a recipe costs: the relative error of each kind of tensor, recipe by recipe, against the file they were made from.

    recipe_error.py SOURCE QUANTIZED...

The error of a kind is the root of the summed squared differences over the root of the summed squares. Experts that a
recipe keeps are left out.
"""

import collections
import sys

import gguf
import numpy


def kind_of(name):
    return name.removesuffix(".weight").rsplit(".", 1)[-1]


def main():
    source = {tensor.name: tensor for tensor in gguf.GGUFReader(sys.argv[1]).tensors}
    rows = collections.defaultdict(dict)
    for path in sys.argv[2:]:
        sums = collections.defaultdict(lambda: [0.0, 0.0, set()])
        for tensor in gguf.GGUFReader(path).tensors:
            original = source[tensor.name]
            if tensor.tensor_type == original.tensor_type:
                continue
            want = gguf.dequantize(original.data, original.tensor_type).astype(numpy.float64)
            have = gguf.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float64)
            total = sums[kind_of(tensor.name)]
            total[0] += ((have - want) ** 2).sum()
            total[1] += (want**2).sum()
            total[2].add(tensor.tensor_type.name)
        for kind, (error, size, types) in sums.items():
            rows[kind][path] = f"{100 * (error / size) ** 0.5:.2f} % ({'/'.join(sorted(types))})"
    print("| tensor | " + " | ".join(sys.argv[2:]) + " |")
    print("|---" * (len(sys.argv) - 1) + "|")
    for kind, cells in rows.items():
        print(f"| {kind} | " + " | ".join(cells.get(path, "") for path in sys.argv[2:]) + " |")


if __name__ == "__main__":
    main()
