"""The network itself, which trainers import. Its weights follow from the seed of the job, by PyTorch's generator."""

from torch import Tensor, nn

from residual_mlp import ResidualMlp


def build(model: ResidualMlp, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """shape: (columns,). It takes shape (batch, columns) and gives shape (batch, outputs)."""
    blocks = (Block(model) for _ in range(model.depth))
    return nn.Sequential(nn.Linear(shape[0], model.width), *blocks, nn.Linear(model.width, outputs))


class Block(nn.Module):
    def __init__(self, model: ResidualMlp) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(model.width), nn.Linear(model.width, model.width), nn.GELU(), nn.Dropout(model.dropout)
        )

    def forward(self, states: Tensor) -> Tensor:
        added: Tensor = states + self.layers(states)
        return added
