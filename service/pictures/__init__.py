"""Pictures and files of curves: PNG, SVG and Parquet, made in a process of their own.

What they take (matplotlib, pyarrow) would double the memory of the service, and seconds of its first answer.
"""

from service.pictures.requests import CurveFile, Line, Panel, Picture, ReportPicture
from service.pictures.studio import Studio, StudioFailed

__all__ = ["CurveFile", "Line", "Panel", "Picture", "ReportPicture", "Studio", "StudioFailed"]
