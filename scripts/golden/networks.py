#!/usr/bin/env python3
"""Writes the golden files of crates/networks with PyTorch, independently of the Rust code: networks.py FOLDER.

    python3 -m venv .venv
    .venv/bin/pip install torch==2.11.0 numpy safetensors
    scripts/weights/fetch.sh
    .venv/bin/python scripts/golden/networks.py crates/networks/tests/golden

network_<cell>.safetensors  a small NAS-Bench-201 network: weights, a batch, and what must come out of it. Every
                            operation of the published code is computed, `none` and unread convolutions too.
sgd.safetensors             parameters under torch.optim.SGD for a few steps of given gradients
resnet18.safetensors        features of two pictures; the seeded weights follow from a formula, see `pattern`
efficientnet-lite0.safetensors   features of two pictures by the published weights, as the converter wrote them
"""

import math
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))

# A strong cell; all five operations; a dead convolution and one that is fed by nothing; an output that is always zero.
CELLS = {
    "strong": "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|",
    "mixed": "|nor_conv_1x1~0|+|avg_pool_3x3~0|nor_conv_3x3~1|+|none~0|skip_connect~1|nor_conv_1x1~2|",
    "unread": "|none~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|",
    "zero": "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|none~1|none~2|",
}
CHANNELS, CELLS_PER_STAGE, CLASSES, SIZE, BATCH = 3, 1, 7, 16, 5


class ReLUConvBN(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, padding):
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(inplace=False),
            nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x):
        return self.op(x)


class Zero(nn.Module):
    def forward(self, x):
        return x.mul(0.0)


def operation(name, channels):
    if name == "none":
        return Zero()
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    kernel = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[name]
    return ReLUConvBN(channels, channels, kernel, 1, kernel // 2)


class Cell(nn.Module):
    def __init__(self, names, channels):
        super().__init__()
        self.layers = nn.ModuleList(operation(name, channels) for name in names)

    def forward(self, x):
        nodes = [x]
        for node in (1, 2, 3):
            terms = [layer(nodes[a]) for (a, b), layer in zip(EDGES, self.layers) if b == node]
            nodes.append(sum(terms))
        return nodes[-1]


class Reduction(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.conv_a = ReLUConvBN(inputs, outputs, 3, 2, 1)
        self.conv_b = ReLUConvBN(outputs, outputs, 3, 1, 1)
        self.downsample = nn.Sequential(
            nn.AvgPool2d(kernel_size=2, stride=2, padding=0), nn.Conv2d(inputs, outputs, 1, bias=False)
        )

    def forward(self, x):
        return self.downsample(x) + self.conv_b(self.conv_a(x))


class Network(nn.Module):
    def __init__(self, cell):
        super().__init__()
        names = [part.split("~")[0] for node in cell.split("+") for part in node.strip("|").split("|")]
        channels = CHANNELS
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        cells = [Cell(names, channels) for _ in range(CELLS_PER_STAGE)]
        for _ in range(2):
            cells.append(Reduction(channels, 2 * channels))
            channels *= 2
            cells += [Cell(names, channels) for _ in range(CELLS_PER_STAGE)]
        self.cells = nn.ModuleList(cells)
        self.lastact = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x)
        x = self.global_pooling(self.lastact(x))
        return self.classifier(x.view(x.size(0), -1))


def without_counters(state):
    return {name: value.clone() for name, value in state.items() if not name.endswith("num_batches_tracked")}


def network_file(folder, label, cell, seed):
    torch.manual_seed(seed)
    net = Network(cell)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            # Not the first values, where scales of 1 and shifts of 0 would hide mistakes.
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.dim() == 1 and value.is_floating_point():
                value.add_(0.3 * torch.randn_like(value))
    images, labels = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(0, CLASSES, (BATCH,))
    tensors = {"weight." + name: value for name, value in without_counters(net.state_dict()).items()}
    tensors |= {"input.images": images, "input.labels": labels}
    net.eval()
    with torch.no_grad():
        tensors["expect.logits_eval"] = net(images)
    net.train()
    logits = net(images)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    tensors |= {"expect.logits_train": logits.detach(), "expect.loss_train": loss.detach().reshape(1)}
    for name, parameter in net.named_parameters():
        gradient = parameter.grad
        tensors["grad." + name] = torch.zeros_like(parameter) if gradient is None else gradient
    for name, value in without_counters(net.state_dict()).items():
        if "running" in name:
            tensors["after." + name] = value
    meta = dict(arch=cell, channels=CHANNELS, cells_per_stage=CELLS_PER_STAGE, classes=CLASSES)
    meta["params"] = sum(parameter.numel() for parameter in net.parameters())
    write(folder / f"network_{label}.safetensors", tensors, meta)


def sgd_file(folder):
    torch.manual_seed(5)
    shapes = {"convolution": (4, 3, 3, 3), "scale": (5,), "linear": (2, 6)}
    rates, tensors = [0.1, 0.05, 0.02], {}
    first = {name: torch.randn(shape) for name, shape in shapes.items()}
    gradients = [{name: torch.randn(shape) for name, shape in shapes.items()} for _ in rates]
    for name in shapes:
        tensors[f"first.{name}"] = first[name]
        for step, gradient in enumerate(gradients):
            tensors[f"gradient.{step}.{name}"] = gradient[name]
    for variant, nesterov, decay in (("nesterov", True, 5e-2), ("plain", False, 0.0)):
        parameters = {name: nn.Parameter(value.clone()) for name, value in first.items()}
        optimizer = torch.optim.SGD(parameters.values(), 1.0, momentum=0.9, nesterov=nesterov, weight_decay=decay)
        for rate, gradient in zip(rates, gradients):
            optimizer.param_groups[0]["lr"] = rate
            for name, parameter in parameters.items():
                parameter.grad = gradient[name].clone()
            optimizer.step()
        for name, parameter in parameters.items():
            tensors[f"{variant}.{name}"] = parameter.detach()
    write(folder / "sgd.safetensors", tensors, {})


def picture(width, height, seed):
    """(3, height, width), f32 of whole bytes: a smooth part, an edge and a grain, by a formula that Rust repeats."""
    y, x, c = torch.meshgrid(torch.arange(height), torch.arange(width), torch.arange(3), indexing="ij")
    byte = (3 * x + 5 * y + 40 * c + seed * 17 + (x * y) % 23 + 60 * (x > width // 2)) % 256
    return byte.permute(2, 0, 1).float()


def pictures(size):
    """One picture that is reduced and one that is enlarged, as (2, 3, size, size)."""
    resized = [
        F.interpolate(picture(*extents)[None], (size, size), mode="bilinear", align_corners=False, antialias=True)
        for extents in ((70, 90, 1), (20, 30, 2))
    ]
    return torch.cat(resized)


def pattern(position, shape):
    """Weights by a formula that Rust repeats: sines of different frequency per tensor, in f64."""
    count = math.prod(shape)
    return torch.sin(torch.arange(count, dtype=torch.float64) * (1.0 + 0.37 * position) + position).reshape(shape)


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """As in torchvision."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        widths = [64, 64, 128, 256, 512]
        for i in (1, 2, 3, 4):
            stride = 1 if i == 1 else 2
            blocks = BasicBlock(widths[i - 1], widths[i], stride), BasicBlock(widths[i], widths[i], 1)
            setattr(self, f"layer{i}", nn.Sequential(*blocks))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))


def resnet_file(folder, size=48):
    net = ResNet18().eval()
    # Sorted by name, so that Rust finds the same position of each tensor.
    state = {name: value for name, value in net.state_dict().items() if value.is_floating_point()}
    with torch.no_grad():
        for position, name in enumerate(sorted(state)):
            value = state[name]
            wave = pattern(position, value.shape)
            if value.dim() == 4:
                wave = wave * (2.0 / value[0].numel()) ** 0.5
            elif name.endswith((".weight", "running_var")):
                wave = 1.0 + 0.25 * wave
            else:
                wave = 0.1 * wave
            value.copy_(wave)
        mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1)
        features = net((pictures(size) / 255 - mean) / std)
    write(folder / "resnet18.safetensors", {"expect.features": features}, dict(image_size=size))


def efficientnet_features(w, x):
    """EfficientNet-Lite0 up to the pooled features, from its description (B0 with ReLU6, without squeezing)."""

    def conv_bn(x, conv, bn, stride=1, groups=1):
        kernel = w[conv + ".weight"]
        need = max((-(-x.shape[-1] // stride) - 1) * stride + kernel.shape[-1] - x.shape[-1], 0)
        x = F.pad(x, (need // 2, need - need // 2) * 2)
        x = F.conv2d(x, kernel, stride=stride, groups=groups)
        statistics = w[bn + ".running_mean"], w[bn + ".running_var"]
        return F.batch_norm(x, *statistics, w[bn + ".weight"], w[bn + ".bias"], False, 0.0, 1e-3)

    x = F.relu6(conv_bn(x, "_conv_stem", "_bn0", 2))
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    for i, stride in enumerate(strides):
        name = f"_blocks.{i}."
        y = x
        if i > 0:
            y = F.relu6(conv_bn(y, name + "_expand_conv", name + "_bn0"))
        y = F.relu6(conv_bn(y, name + "_depthwise_conv", name + "_bn1", stride, y.shape[1]))
        y = conv_bn(y, name + "_project_conv", name + "_bn2")
        x = x + y if x.shape == y.shape else y
    return F.relu6(conv_bn(x, "_conv_head", "_bn1")).mean((2, 3))


def efficientnet_file(folder, size=64):
    path = pathlib.Path(__file__).parents[2] / ".weights/efficientnet-lite0.safetensors"
    with torch.no_grad():
        features = efficientnet_features(load_file(path), (pictures(size) - 127) / 128)
    write(folder / "efficientnet-lite0.safetensors", {"expect.features": features}, dict(image_size=size))


def write(path, tensors, meta):
    tensors = {name: value.detach().contiguous() for name, value in tensors.items()}
    save_file(tensors, path, {key: str(value) for key, value in meta.items()})
    print(path.name, path.stat().st_size)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for seed, (label, cell) in enumerate(CELLS.items()):
        network_file(folder, label, cell, seed)
    sgd_file(folder)
    resnet_file(folder)
    efficientnet_file(folder)


if __name__ == "__main__":
    main()
