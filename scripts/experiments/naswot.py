"""NASWOT of NAS-Bench-201 networks: a score without training (Mellor et al., Neural Architecture Search without
Training, 2021, https://arxiv.org/abs/2006.04647).

Each ReLU turns a picture into a code of zeros and ones. The kernel counts, for every pair of pictures, the ReLU outputs
at which both codes agree; the score is the logarithm of its determinant. Network, batch and batch normalisation are the
paper's: C=16, N=5, 32 x 32 pixels, 128 pictures, statistics of the batch.
"""

import io

import torch
from PIL import Image
from pyarrow import parquet
from torch import nn

import gate_statistics

CHANNELS, CELLS_PER_STAGE, SIZE, BATCH = 16, 5, 32, 128


def relu_conv_norm(inputs, outputs, kernel, stride=1):
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(outputs))


def operation(name, channels):
    """The module of an operation; none for `none`, which adds nothing."""
    if name == "none":
        return None
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return relu_conv_norm(channels, channels, {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[name])


class Cell(nn.Module):
    def __init__(self, names, channels):
        super().__init__()
        self.layers = nn.ModuleList(operation(name, channels) for name in names)

    def forward(self, x):
        nodes = [x]
        for node in (1, 2, 3):
            edges = zip(gate_statistics.EDGES, self.layers)
            terms = [layer(nodes[start]) for (start, end), layer in edges if end == node and layer is not None]
            nodes.append(sum(terms) if terms else torch.zeros_like(x))
        return nodes[3]


class Reduction(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.convolutions = nn.Sequential(relu_conv_norm(inputs, outputs, 3, 2), relu_conv_norm(outputs, outputs, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x):
        return self.convolutions(x) + self.shortcut(x)


def network(cell):
    """Everything up to the last ReLU: what comes after it changes no code."""
    names = gate_statistics.operations(cell)
    layers = [nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS)]
    for stage in range(3):
        channels = CHANNELS << stage
        if stage > 0:
            layers.append(Reduction(channels // 2, channels))
        layers += [Cell(names, channels) for _ in range(CELLS_PER_STAGE)]
    return nn.Sequential(*layers, nn.BatchNorm2d(CHANNELS << 2), nn.ReLU())


def pictures(path):
    """The first pictures of a Parquet file of encoded ones, normalised over the batch: BATCH x 3 x SIZE x SIZE."""
    rows = next(parquet.ParquetFile(path).iter_batches(BATCH, columns=["image"])).to_pylist()
    if len(rows) < BATCH:
        raise SystemExit(f"`{path}` must hold at least {BATCH} pictures, got {len(rows)}")
    batch = []
    for row in rows:
        picture = Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB").resize((SIZE, SIZE))
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        batch.append(pixels.reshape(SIZE, SIZE, 3).permute(2, 0, 1))
    batch = torch.stack(batch).float()
    spread, mean = torch.std_mean(batch, dim=(0, 2, 3), keepdim=True)
    return (batch - mean) / spread


@torch.no_grad()
def score(cell, batch):
    """Log-determinant of the kernel of the ReLU codes of `batch`, for one draw of the weights."""
    torch.manual_seed(0)
    net = network(cell)
    kernel = torch.zeros(len(batch), len(batch), dtype=torch.float64)

    def add(_module, _inputs, output):
        code = (output.flatten(1) > 0).float()
        nonlocal kernel
        kernel += code @ code.T + (1 - code) @ (1 - code).T

    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(add)
    net.train()(batch)
    return torch.linalg.slogdet(kernel).logabsdet.item()
