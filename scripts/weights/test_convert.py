"""Tests of the converter: python3 -m unittest discover scripts/weights."""

import array
import io
import json
import pickle
import struct
import unittest

import convert


class Tensor:
    """Pickles as a tensor of PyTorch does, for a storage named `key`."""

    def __init__(self, key, kind, values, shape, strides):
        self.key, self.kind, self.values, self.shape, self.strides = key, kind, values, shape, strides

    def content(self):
        """A pickle of `{name: tensor}` cannot be made without PyTorch, so its text form is written by hand."""
        tuples = [f"({''.join(f'I{n}{chr(10)}' for n in numbers)}t" for numbers in (self.shape, self.strides)]
        storage = f"(Vstorage\nctorch\n{self.kind}\nV{self.key}\nVcpu\nI{len(self.values)}\nNtQ"
        return f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I0\n{tuples[0]}{tuples[1]}I00\nccollections\nOrderedDict\n(tRtR"


def legacy_file(tensors):
    parts = [convert.LEGACY_MAGIC, convert.LEGACY_PROTOCOL, {"little_endian": True}]
    content = b"".join(pickle.dumps(part, 2) for part in parts)
    items = "".join(f"V{name}\n{tensor.content()}" for name, tensor in tensors.items())
    content += f"({items}d.".encode()
    content += pickle.dumps([tensor.key for tensor in tensors.values()], 2)
    for tensor in tensors.values():
        code = convert.KINDS[tensor.kind][0]
        content += struct.pack("<q", len(tensor.values)) + array.array(code, tensor.values).tobytes()
    return content


class Convert(unittest.TestCase):
    def test_tensors_come_out_in_row_major_order_and_only_those_of_features(self):
        views, storages = convert.read_legacy(
            legacy_file(
                {
                    # Stored column by column: strides 1 and 2.
                    "b.weight": Tensor("7", "FloatStorage", [1, 2, 3, 4, 5, 6], (2, 3), (1, 2)),
                    "a.bias": Tensor("8", "FloatStorage", [0.5], (), ()),
                    "_fc.bias": Tensor("9", "FloatStorage", [9, 9], (2,), (1,)),
                    "a.num_batches_tracked": Tensor("10", "LongStorage", [3], (), ()),
                }
            )
        )
        content = convert.to_safetensors(views, storages)
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        self.assertEqual(list(header), ["a.bias", "b.weight"])
        self.assertEqual(header["b.weight"], {"dtype": "F32", "shape": [2, 3], "data_offsets": [4, 28]})
        self.assertEqual(struct.unpack("<7f", content[8 + length :]), (0.5, 1, 3, 5, 2, 4, 6))

    def test_names_that_weights_do_not_need_are_refused(self):
        for content in (b"cos\nsystem\n(Vecho\ntR.", b"cbuiltins\neval\n(V1\ntR.", b"ctorch\nload\n."):
            with self.assertRaisesRegex(pickle.UnpicklingError, "not allowed"):
                convert.Reader(io.BytesIO(content)).load()

    def test_only_known_storages_are_read(self):
        with self.assertRaisesRegex(pickle.UnpicklingError, "not allowed"):
            convert.Reader(io.BytesIO(b"(Vmodule\nNVkey\nVcpu\nI1\nNtQ.")).load()

    def test_other_files_and_left_over_bytes_are_refused(self):
        with self.assertRaisesRegex(ValueError, "expected format"):
            convert.read_legacy(pickle.dumps(1, 2) * 2)
        whole = legacy_file({"a": Tensor("1", "FloatStorage", [1.0], (1,), (1,))})
        self.assertEqual(list(convert.read_legacy(whole)[0]), ["a"])
        with self.assertRaisesRegex(ValueError, "left over"):
            convert.read_legacy(whole + b"x")


if __name__ == "__main__":
    unittest.main()
