"""The models, built from what the spec says. Their weights follow from the seed that PyTorch was given before."""

from itertools import pairwise

from torch import nn

from service.spec import LinearModel, MlpModel, Model

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}


def build(model: Model, inputs: int, outputs: int) -> nn.Module:
    """A module from shape (batch, inputs) to shape (batch, outputs), with PyTorch's own initial weights."""
    match model:
        case LinearModel():
            return nn.Linear(inputs, outputs)
        case MlpModel():
            return _mlp(model, inputs, outputs)


def _mlp(model: MlpModel, inputs: int, outputs: int) -> nn.Sequential:
    widths = [inputs, *model.hidden_sizes]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), ACTIVATIONS[model.activation]()]
        if model.dropout:
            layers.append(nn.Dropout(model.dropout))
    return nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
