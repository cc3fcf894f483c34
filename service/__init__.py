"""The trunk of trainbox: specs, plans, the queue, runs and their curves. It knows neither FastAPI nor torch."""

from importlib.metadata import version

__version__ = version("trainbox")
