"""What trainbox reads of this model when it starts. No torch here: the service would have to carry it."""

from typing import Annotated, Literal

from pydantic import Field

from service.extensions import Extension, FurtherModel


class ResidualMlp(FurtherModel):
    """Fully connected blocks with a way round each of them."""

    type: Literal["residual_mlp"] = "residual_mlp"
    width: Annotated[int, Field(ge=1, le=8192)] = Field(default=64, description="units of each block")
    depth: Annotated[int, Field(ge=1, le=64)] = Field(default=2, description="blocks, one behind the other")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.0, description="share of units zeroed at each step")


EXTENSION = Extension(
    model=ResidualMlp, tasks=("classification", "regression"), data=("table",), build="residual_mlp.network:build"
)
