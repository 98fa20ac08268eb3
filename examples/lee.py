"""Two networks small enough to compute by hand, from the lectures of Hung-yi Lee.

The memory network: every weight is 1, without nonlinearity. It reads [1 1], [1 1], [2 2], outputs
4, 12, 32: the same input gives another output, because the network remembers. The gate toy is one
LSTM cell: x2 = 1 adds x1 to the memory, x2 = -1 clears it, x3 = 1 outputs it.
First the weights are set by hand, then they are learnt from examples.
"""

import torch

import seqfast.nn
from common import arguments, train

INPUTS = torch.tensor([[1.0, 1], [1, 1], [2, 2]])
GATES = torch.tensor([[3.0, 1, 0], [4, 1, 0], [2, 0, 0], [1, 0, 1], [3, -1, 0]])
SMALL = 1e-4  # tanh(x) is x for small x, so the memory holds its numbers scaled by this


class MemoryNetwork(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = seqfast.nn.RNN(2, 2, nonlinearity="relu", bias=False)  # nothing here is negative
        self.head = torch.nn.Linear(2, 1, bias=False)

    def forward(self, x):  # [steps, batch, 2] -> [steps, batch, 1]
        return self.head(self.rnn(x)[0])


class GateToy(torch.nn.Module):
    def __init__(self, hidden=1):
        super().__init__()
        self.lstm = seqfast.nn.LSTM(3, hidden)
        self.head = torch.nn.Linear(hidden, 1)

    def forward(self, x):  # [steps, batch, 3] -> [steps, batch, 1]
        return self.head(self.lstm(x)[0])


@torch.no_grad()
def set_by_hand():
    memory = MemoryNetwork()
    for weight in memory.parameters():
        weight.fill_(1)
    toy = GateToy().double()
    for weight in toy.parameters():
        weight.zero_()
    i, f, g, o = range(4)
    weight, bias = toy.lstm.weight_ih_l0, toy.lstm.bias_ih_l0
    weight[i, 1], bias[i] = 200, -100  # open for x2 = 1
    weight[f, 1], bias[f] = 200, 100  # closed for x2 = -1 alone
    weight[g, 0] = SMALL
    weight[o, 2], bias[o] = 200, -100  # open for x3 = 1
    toy.head.weight.fill_(1 / SMALL)
    return memory, toy


def memory_task(batch):
    x = torch.randint(0, 3, (3, batch, 2)).float()
    return x, set_by_hand()[0](x).detach()


def gate_task(batch, steps=8):
    """Random orders, and what a memory that obeys them puts out."""
    x = torch.stack([torch.randint(0, 5, (steps, batch)), torch.randint(-1, 2, (steps, batch)),
                     torch.randint(0, 2, (steps, batch))], dim=2).float()  # fmt: skip
    memory, outputs = torch.zeros(batch), []
    for value, order, out in (step.unbind(1) for step in x):
        memory = torch.where(order == -1, 0, memory + value * (order == 1))
        outputs.append(memory * out)
    return x, torch.stack(outputs)[..., None]


def learn(model, draw, args, lr):
    def loss_of(batch):
        x, y = batch
        return (model(x) - y).pow(2).mean()

    def batches():
        return (draw(64) for _ in range(100))

    train(model, batches, loss_of, epochs=args.epochs, lr=lr)
    train(model, batches, loss_of, epochs=args.epochs // 3, lr=lr / 10)
    x, y = draw(1000)
    return (model(x).detach().round() == y).float().mean().item()


def main(argv=None):
    args = arguments(__doc__, argv, epochs=30, hidden=32)
    memory, toy = set_by_hand()
    with torch.no_grad():
        said = memory(INPUTS[:, None])[:, 0, 0].tolist()
        let_out = toy(GATES[:, None].double())[:, 0, 0].round(decimals=4).tolist()
    print("memory network, weights of 1:", *(f"{y:g}" for y in said))
    print("gate toy, set by hand:       ", *(f"{abs(y):g}" for y in let_out))

    learnt = MemoryNetwork()
    with torch.no_grad():
        for weight in learnt.parameters():
            weight.uniform_(0, 1)
    right = {"memory network": learn(learnt, memory_task, args, 1e-2)}
    with torch.no_grad():
        again = learnt(INPUTS[:, None])[:, 0, 0].tolist()
    print("memory network, learnt:      ", *(f"{y:.3f}" for y in again))
    right["gate toy"] = learn(GateToy(args.hidden), gate_task, args, 1e-2)
    for name, share in right.items():
        print(f"{name}, learnt: {share:.1%} of the outputs exact when rounded")
    return said, let_out, again, right


if __name__ == "__main__":
    main()
