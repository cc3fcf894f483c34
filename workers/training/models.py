"""The models, built from what the spec says. Their weights follow from the seed that PyTorch was given before."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pkgutil import resolve_name

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.extensions import FurtherModel
from service.spec import CnnModel, GptModel, LinearModel, MlpModel, Model
from service.tasks import FURTHER_MODELS

BYTES = 256
STAGES = 3

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
}
NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def whole(model: Model, shape: Sequence[int], outputs: int, mean: Tensor | None, deviation: Tensor | None) -> nn.Module:
    """The module for samples as they are stored. mean, deviation: of the channels of images, shape (channels,)."""
    inner = build(model, shape, outputs)
    return inner if mean is None or deviation is None else nn.Sequential(Pixels(mean, deviation), inner)


def build(model: Model, shape: Sequence[int], outputs: int) -> nn.Module:
    """A module for samples of a shape, with PyTorch's own initial weights where nothing else is said.

    shape: (columns,) or (channels, height, width); of no matter to gpt. It gives shape (batch, outputs), and gpt for
    bytes of shape (batch, length) (batch, length, outputs).
    """
    match model:
        case LinearModel():
            return nn.Sequential(*_flat(shape), nn.Linear(math.prod(shape), outputs))
        case MlpModel():
            return _mlp(model, shape, outputs)
        case CnnModel():
            return Cnn(model, shape[0], outputs)
        case GptModel():
            return Gpt(model, outputs)
        case FurtherModel():
            further: nn.Module = resolve_name(FURTHER_MODELS[model.type].build)(model, tuple(shape), outputs)
            return further


def _flat(shape: Sequence[int]) -> list[nn.Module]:
    return [nn.Flatten()] if len(shape) > 1 else []


def _mlp(model: MlpModel, shape: Sequence[int], outputs: int) -> nn.Sequential:
    layers = _flat(shape)
    for before, after in pairwise([math.prod(shape), *model.hidden_sizes]):
        layers.append(nn.Linear(before, after))
        if model.normalization != "none":
            layers.append(NORMS[model.normalization](after))
        layers.append(ACTIVATIONS[model.activation]())
        if model.dropout:
            layers.append(nn.Dropout(model.dropout))
    return nn.Sequential(*layers, nn.Linear(model.hidden_sizes[-1], outputs))


class Pixels(nn.Module):
    """Images as they are stored, of any type, into float32 without the mean and the deviation of each channel.

    mean, deviation: of the training split, shape (channels,). They travel with the weights.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("deviation", deviation[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() - self.mean) / self.deviation


class Cnn(nn.Sequential):
    """A residual network (He et al. 2016), normalised over the samples that are computed together."""

    def __init__(self, model: CnnModel, channels: int, outputs: int) -> None:
        widths = [model.width << stage for stage in range(STAGES)]
        layers: list[nn.Module] = [_convolution(channels, widths[0], 1), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for stage, (before, width) in enumerate(pairwise([widths[0], *widths])):
            layers.append(Residual(before, width, stride=1 if stage == 0 else 2))
            layers += [Residual(width, width, stride=1) for _ in range(model.depth - 1)]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], outputs))
        # A fifth faster on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class Residual(nn.Module):
    """Two convolutions beside a short way round them, which is a projection where the shape changes."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _convolution(before, width, stride), _convolution(width, width, 1)
        self.first_norm, self.second_norm = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        same = before == width and stride == 1
        self.around = nn.Identity() if same else nn.Conv2d(before, width, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(images)))
        return functional.relu(self.second_norm(self.second(inner)) + self.around(images))


def _convolution(before: int, width: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(before, width, 3, stride, padding=1, bias=False)


class Gpt(nn.Module):
    """A decoder with its norms in front of each part, and initial weights as in GPT-2 (Radford et al. 2019)."""

    def __init__(self, model: GptModel, outputs: int) -> None:
        super().__init__()
        self.bytes = nn.Embedding(BYTES, model.width)
        self.positions = nn.Embedding(model.context, model.width)
        self.dropout = nn.Dropout(model.dropout)
        self.blocks = nn.Sequential(*(Block(model) for _ in range(model.layers)))
        self.norm = nn.LayerNorm(model.width)
        self.head = nn.Linear(model.width, outputs, bias=False)
        self.apply(_gpt_weights)
        for name, weight in self.named_parameters():
            if name.endswith("out.weight"):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * model.layers))

    def forward(self, text: Tensor) -> Tensor:
        """text: bytes, shape (batch, length), no longer than the context. Logits: shape (batch, length, outputs)."""
        positions = torch.arange(text.shape[1], device=text.device)
        states = self.dropout(self.bytes(text.int()) + self.positions(positions))
        logits: Tensor = self.head(self.norm(self.blocks(states)))
        return logits


class Block(nn.Module):
    """Attention to what came before, then a perceptron for each position; both add to the state."""

    def __init__(self, model: GptModel) -> None:
        super().__init__()
        width = model.width
        self.heads, self.share = model.heads, model.dropout
        self.attention_norm, self.perceptron_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention_in, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron_in, self.perceptron_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(model.dropout)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self.dropout(self._attention(self.attention_norm(states)))
        inner = functional.gelu(self.perceptron_in(self.perceptron_norm(states)))
        added: Tensor = states + self.dropout(self.perceptron_out(inner))
        return added

    def _attention(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        # (batch, length, 3 * width) to three of (batch, heads, length, width / heads)
        split = self.attention_in(states).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind()
        share = self.share if self.training else 0.0
        seen = functional.scaled_dot_product_attention(query, key, value, dropout_p=share, is_causal=True)
        joined: Tensor = self.attention_out(seen.transpose(1, 2).reshape(batch, length, width))
        return joined


def _gpt_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
