"""The script that a person would write instead of submitting a job: digits, a perceptron, Adam.

`python -m benchmarks.train [STEPS]` prints a line when the first step is done, and ends after so many, one by default.
"""

import sys
from itertools import count

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = load_digits()
    train, _, labels, _ = train_test_split(data.data, data.target, test_size=0.2, stratify=data.target, random_state=0)
    x = torch.tensor((train - train.mean(0)) / (train.std(0) + 1e-8), dtype=torch.float32)
    y = torch.tensor(labels)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    batches = (batch for _ in count() for batch in torch.randperm(len(x)).split(64))  # type: ignore[no-untyped-call]
    for step, batch in zip(range(steps), batches, strict=False):
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step == 0:
            print(f"first step {loss.item()}", flush=True)


if __name__ == "__main__":
    main()
