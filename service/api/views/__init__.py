"""What answers look like, for the documentation and the test that holds answers against it: a module a noun."""

from pydantic import BaseModel, ConfigDict

Number = float | str | None


class View(BaseModel):
    model_config = ConfigDict(extra="forbid")
