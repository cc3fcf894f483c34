"""Charts and tables drawn with characters, for terminals and curl. No colour, no control code, never too wide."""

from service.charts.drawing import Line, line_chart
from service.charts.lettering import escaped, paragraph, short_names
from service.charts.tables import table

__all__ = ["Line", "escaped", "line_chart", "paragraph", "short_names", "table"]
