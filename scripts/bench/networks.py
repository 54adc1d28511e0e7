"""The plain loop that candidates' trainings are compared with: prints lines of JSON like the example `throughput`.

    networks.py CASE=CELL… [--size 32] [--memory]

The published network as a competent user writes it in PyTorch: a node is rectified once, `none` is skipped, the fused
optimiser, one thread; in both memory layouts. Every figure is the median over steps of this thread's time, without any
loading or augmentation of pictures. With `--memory` it only tells by how many bytes the first case's steps, channels last,
raised the most that the process had resident.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

EDGES = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
BATCH = 64


def operations(cell):
    return [edge.split("~")[0] for node in cell.split("+") for edge in node.strip("|").split("|")]


class ConvNorm(nn.Sequential):
    """Convolution and batch norm of an input that is rectified already."""

    def __init__(self, inputs, outputs, kernel, stride=1):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
        )


class Cell(nn.Module):
    def __init__(self, names, channels):
        super().__init__()
        self.names = names
        kernels = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
        self.layers = nn.ModuleDict(
            {str(i): ConvNorm(channels, channels, kernels[name]) for i, name in enumerate(names) if name in kernels}
        )

    def forward(self, x):
        nodes, rectified = {0: x}, {}
        for place, ((source, target), name) in enumerate(zip(EDGES, self.names)):
            if name == "none" or source not in nodes:
                continue
            value = nodes[source]
            if name == "avg_pool_3x3":
                value = F.avg_pool2d(value, 3, 1, 1, count_include_pad=False)
            elif name != "skip_connect":
                if source not in rectified:
                    rectified[source] = value.relu()
                value = self.layers[str(place)](rectified[source])
            nodes[target] = nodes[target] + value if target in nodes else value
        return nodes.get(3, torch.zeros_like(x))


class Reduction(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = ConvNorm(channels, 2 * channels, 3, 2)
        self.second = ConvNorm(2 * channels, 2 * channels, 3)
        self.shortcut = nn.Conv2d(channels, 2 * channels, 1, bias=False)

    def forward(self, x):
        return self.shortcut(F.avg_pool2d(x, 2)) + self.second(self.first(x.relu()).relu())


class Network(nn.Module):
    def __init__(self, cell, channels, cells_per_stage):
        super().__init__()
        names, layers = operations(cell), [ConvNorm(3, channels, 3)]
        for stage in range(3):
            if stage:
                layers.append(Reduction(channels))
                channels *= 2
            layers += [Cell(names, channels) for _ in range(cells_per_stage)]
        self.features, self.norm = nn.Sequential(*layers), nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x):
        return self.classifier(self.norm(self.features(x)).relu().mean((2, 3)))


def step_of(cell, channels, cells_per_stage, size, layout):
    network = Network(cell, channels, cells_per_stage).train().to(memory_format=layout)
    images = torch.randn(BATCH, 3, size, size).to(memory_format=layout)
    labels = torch.randint(0, 10, (BATCH,))
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
    )

    def step():
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()

    return step


def sizes(name):
    """Channels and cells a stage of a case such as C8N1/mixed."""
    return (int(number) for number in name.split("/")[0][1:].split("N"))


def resident(name):
    """VmRSS, or VmHWM, the most ever, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if arguments.memory:
        name, cell = arguments.cases[0].split("=")
        before = resident("VmRSS")
        step = step_of(cell, *sizes(name), arguments.size, torch.channels_last)
        for _ in range(3):
            step()
        most = resident("VmHWM") - before
        print(json.dumps({"case": name, "what": "plain memory", "rate": most}))
        return
    for case in arguments.cases:
        name, cell = case.split("=")
        channels, cells_per_stage = sizes(name)
        for what, layout in [("nchw", torch.contiguous_format), ("nhwc", torch.channels_last)]:
            step = step_of(cell, channels, cells_per_stage, arguments.size, layout)
            step()
            step()
            times = []
            for _ in range(16 if cells_per_stage == 1 else 5):
                start = time.thread_time()
                step()
                times.append(time.thread_time() - start)
            print(json.dumps({"case": name, "what": what, "rate": BATCH / statistics.median(times)}), flush=True)


main()
