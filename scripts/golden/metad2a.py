"""Writes the golden files of crates/metad2a: inputs, weights, outputs and gradients of small MetaD2A models.

    python scripts/golden/metad2a.py crates/metad2a/tests/golden        (needs torch and safetensors)

Written from the paper's equations, one graph and one vertex at a time and in double precision, so that it shares
neither structure nor rounding with the Rust crate.  Weights and inputs are rounded to single precision first.

A file holds `weight.NAME`, `input.*`, `expect.*` and `grad.NAME`; its metadata says the sizes.
"""

import pathlib
import sys

import torch
from safetensors.torch import save_file

TYPES, VERTICES, START, END = 7, 8, 0, 1
CONSTANT = [(0, 1), (1, 2), (1, 3), (1, 5), (2, 3), (2, 6), (3, 4), (3, 6), (4, 5), (5, 6), (6, 7)]
BETA = 0.005


def rounded(tensor):
    return tensor.float().double()


class Weights(dict):
    """Named leaves, made at first use with the scale that the layer kind asks for."""

    def __init__(self, seed):
        super().__init__()
        self.random = torch.Generator().manual_seed(seed)

    def make(self, name, *shape, fan):
        if name not in self:
            values = torch.rand(*shape, generator=self.random, dtype=torch.float64) * 2 - 1
            # Larger where a graph is decided, so that greedy graphs differ from code to code.
            values *= 4 if name.startswith(("fc1.", "fc3.", "add_", "grud.")) else 1
            self[name] = rounded(values / fan**0.5).requires_grad_()
        return self[name]

    def linear(self, name, x, outputs, bias=True):
        y = self.make(name + ".weight", outputs, x.shape[-1], fan=x.shape[-1]) @ x.unsqueeze(-1)
        y = y.squeeze(-1)
        return y + self.make(name + ".bias", outputs, fan=x.shape[-1]) if bias else y

    def gru(self, name, x, h):
        n = len(h)
        wi = self.make(name + ".weight_ih", 3 * n, len(x), fan=n) @ x + self.make(name + ".bias_ih", 3 * n, fan=n)
        wh = self.make(name + ".weight_hh", 3 * n, n, fan=n) @ h + self.make(name + ".bias_hh", 3 * n, fan=n)
        r, z = torch.sigmoid(wi[:n] + wh[:n]), torch.sigmoid(wi[n:2 * n] + wh[n:2 * n])
        new = torch.tanh(wi[2 * n:] + r * wh[2 * n:])
        return (1 - z) * new + z * h

    def mab(self, name, queries, keys, width, heads=4):
        q = self.linear(name + ".fc_q", queries, width)
        k = self.linear(name + ".fc_k", keys, width)
        v = self.linear(name + ".fc_v", keys, width)
        part, results = width // heads, []
        for head in range(heads):
            s = slice(head * part, (head + 1) * part)
            weights = torch.exp(q[:, s] @ k[:, s].T / width**0.5)
            weights = weights / weights.sum(1, keepdim=True)
            results.append(q[:, s] + weights @ v[:, s])
        o = torch.cat(results, 1)
        return o + torch.relu(self.linear(name + ".fc_o", o, width))

    def set_pool(self, name, elements, width):
        for layer in range(2):
            elements = self.mab(f"{name}.enc.{layer}.mab", elements, elements, width)
        seed = self.make(name + ".dec.0.S", 1, 1, width, fan=width / 3)[0]
        return self.linear(name + ".dec.1", self.mab(name + ".dec.0.mab", seed, elements, width)[0], width)

    def data_set(self, pictures, classes, width):
        """(classes * images, features) -> (width)."""
        of_class = [self.set_pool("intra_setpool", images, width) for images in pictures.chunk(classes)]
        return self.set_pool("inter_setpool", torch.stack(of_class), width)

    def message(self, gate, mapper, state, vertex):
        x = torch.cat([state, one_hot(vertex, VERTICES)])
        hidden = len(state)
        return torch.sigmoid(self.linear(gate + ".0", x, hidden)) * self.linear(mapper + ".0", x, hidden, False)


def one_hot(index, count):
    vector = torch.zeros(count, dtype=torch.float64)
    vector[index] = 1
    return vector


# --- generator


def grow(w, z, hidden, choose_type, choose_edge):
    """One graph, vertex by vertex; the two functions choose, and may learn what the model would have chosen."""
    message = lambda u: w.message("decoding_gate", "decoding_mapper", states[u], u)
    start = torch.tanh(w.linear("fc3", z, hidden))
    states, types, edges = [w.gru("grud", one_hot(START, TYPES), start)], [START], set()
    for v in range(1, VERTICES):
        logits = w.linear("add_vertex.2", torch.relu(w.linear("add_vertex.0", states[-1], 2 * hidden)), TYPES)
        types.append(choose_type(v, logits))
        received = torch.zeros(hidden, dtype=torch.float64)
        state = w.gru("grud", one_hot(types[-1], TYPES), received)
        if types[-1] == END and choose_edge is None:
            edges |= {(u, v) for u in range(v) if not any(a == u for a, _ in edges)}
            return types, edges
        for u in range(v - 1, -1, -1):
            inner = torch.relu(w.linear("add_edge.0", torch.cat([states[u], state]), 4 * hidden))
            p = torch.sigmoid(w.linear("add_edge.2", inner, 1))[0]
            if (p > 0.5) if choose_edge is None else choose_edge(u, v, p):
                edges.add((u, v))
                received = received + message(u)
            state = w.gru("grud", one_hot(types[-1], TYPES), received)
        states.append(state)
    return types, edges


def greedy(w, z, hidden):
    return grow(w, z, hidden, lambda v, logits: END if v == 7 else int(logits.argmax()), None)


def negative_log_probability(w, z, hidden, types, adjacency):
    terms = []

    def true_type(v, logits):
        terms.append(-torch.log_softmax(logits, 0)[types[v]])
        return int(types[v])

    def true_edge(u, v, p):
        edge = bool(adjacency[u, v])
        terms.append(-(p if edge else 1 - p).log())
        return edge

    grow(w, z, hidden, true_type, true_edge)
    return torch.stack(terms).sum()


def generator(w, sizes, tensors):
    latent, hidden, classes = sizes["nz"], sizes["hs"], sizes["classes"]
    means, logs, total = [], [], 0
    for pictures, types, adjacency in zip(tensors["features"], tensors["types"], tensors["adjacency"]):
        v = w.data_set(pictures, classes, latent)
        means.append(w.linear("fc1", v, latent))
        logs.append(w.linear("fc2", v, latent))
        total = total + negative_log_probability(w, means[-1], hidden, types, adjacency)
    mu, logvar = torch.stack(means), torch.stack(logs)
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
    loss = total + BETA * kl
    loss.backward()
    expected = dict(mu=mu, logvar=logvar, reconstruction=total, kl=kl, loss=loss)
    types, adjacency = torch.full((len(mu), VERTICES), -1), torch.zeros(len(mu), VERTICES, VERTICES)
    with torch.no_grad():
        for g, z in enumerate(mu):
            found, edges = greedy(w, z, hidden)
            types[g, : len(found)] = torch.tensor(found)
            for u, v in edges:
                adjacency[g, u, v] = 1
    return expected | dict(greedy_types=types, greedy_adjacency=adjacency)


# --- predictor


def predictor(w, sizes, tensors):
    latent, hidden, classes = sizes["nz"], sizes["hs"], sizes["classes"]
    sets, graphs, outputs = [], [], []

    def sweep(way, types, order, senders):
        states = {}
        for v in order:
            received = torch.zeros(hidden, dtype=torch.float64)
            for u in senders(v):
                received = received + w.message("gate_" + way, "mapper_" + way, states[u], u)
            states[v] = w.gru("grue_" + way, one_hot(types[v], TYPES), received)
        return states[order[-1]]

    for pictures, types, adjacency in zip(tensors["features"], tensors["types"], tensors["adjacency"]):
        ahead = sweep("forward", types, range(8), lambda v: [u for u in range(8) if adjacency[u, v]])
        back = sweep("backward", types, range(7, -1, -1), lambda v: [u for u in range(8) if adjacency[v, u]])
        sets.append(w.data_set(pictures, classes, latent))
        graphs.append(w.linear("fc1", w.linear("hg_unify.0", torch.cat([ahead, back]), hidden), latent))
        inner = torch.tanh(w.linear("pred_fc.0", torch.cat([sets[-1], graphs[-1]]), hidden))
        outputs.append(w.linear("pred_fc.2", inner, 1))
    prediction = torch.stack(outputs)
    loss = ((prediction - tensors["target"]) ** 2).sum()
    loss.backward()
    return dict(dataset_embedding=torch.stack(sets), graph_embedding=torch.stack(graphs), prediction=prediction,
                loss=loss)


def write(folder, name, model, seed, random_edges, features, **sizes):
    random = torch.Generator().manual_seed(seed)
    count, classes, images = 4, sizes["classes"], sizes["images_per_class"]
    types = torch.randint(2, TYPES, (count, VERTICES), generator=random)
    types[:, 0], types[:, -1] = START, END
    adjacency = torch.zeros(count, VERTICES, VERTICES, dtype=torch.float64)
    for u, v in CONSTANT:
        adjacency[:, u, v] = 1
    if random_edges:
        adjacency = (torch.rand(count, VERTICES, VERTICES, generator=random) < 0.4).double().triu(1)
    pictures = torch.randn(count, classes * images, features, generator=random, dtype=torch.float64)
    inputs = dict(features=rounded(pictures), types=types, adjacency=adjacency)
    if model is predictor:
        inputs["target"] = rounded(torch.randn(count, 1, generator=random, dtype=torch.float64))
    weights = Weights(seed)
    expected = model(weights, sizes, inputs)
    tensors = {f"weight.{k}": t for k, t in weights.items()} | {f"grad.{k}": t.grad for k, t in weights.items()}
    tensors |= {f"input.{k}": t for k, t in inputs.items()} | {f"expect.{k}": t for k, t in expected.items()}
    plain = lambda t: t.detach().float() if t.is_floating_point() else t
    tensors = {k: plain(t).reshape(t.shape or (1,)).contiguous() for k, t in sorted(tensors.items())}
    metadata = {k: str(v) for k, v in sizes.items()} | ({"beta": str(BETA)} if model is generator else {})
    save_file(tensors, folder / f"{name}.safetensors", metadata)


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = pathlib.Path(sys.argv[1])
    # Seeds whose greedy graphs differ: one with 19 to 21 edges, one with early ENDs.
    small = dict(nz=8, images_per_class=3, classes=2)
    write(out, "generator_constant_edges", generator, 31, False, 24, hs=10, **small)
    write(out, "generator_random_edges", generator, 14, True, 16, hs=8, **small)
    write(out, "predictor_constant_edges", predictor, 3, False, 24, hs=12, **small)
    write(out, "predictor_random_edges", predictor, 4, True, 16, hs=10, **small)
