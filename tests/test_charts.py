"""Charts and tables of characters: they say what the numbers say, and fit."""

import math
import re
import threading

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from rich.cells import cell_len

from service.charts import Line, line_chart, table
from service.charts.scales import Scale, linear, logarithmic
from service.charts.tables import Cell
from service.curves.rollups import Floats

STEPS = np.arange(1, 1001)


def falling(speed: float) -> Floats:
    return np.asarray(2.3 * np.exp(-STEPS / speed) + 0.1)


def widest(text: str) -> int:
    return max(map(cell_len, text.splitlines()), default=0)


def drawn(text: str, marker: str) -> list[tuple[int, int]]:
    """Places (row, column) of a marker inside the frame."""
    rows = [line for line in text.splitlines() if line.rstrip().endswith("│")]
    return [(row, column) for row, line in enumerate(rows) for column, char in enumerate(line) if char == marker]


def test_a_chart_shows_two_falling_curves_with_their_names_and_axes() -> None:
    chart = line_chart([Line("slow", STEPS, falling(300)), Line("fast", STEPS, falling(60))], 80, 20, "loss", "step")
    lines = chart.splitlines()
    assert lines[0] == "loss"
    assert lines[-1] == "  * slow   o fast"
    assert lines[-2].split() == ["step"]
    assert lines[-3].split() == ["0", "200", "400", "600", "800", "1000"]
    slow, fast = drawn(chart, "*"), drawn(chart, "o")
    for places in (slow, fast):
        assert [row for row, _ in sorted(places, key=lambda place: place[1])] == sorted(row for row, _ in places)
    middle = {column: row for row, column in slow}
    assert all(row >= middle[column] for row, column in fast if column in middle)


@pytest.mark.parametrize("width", [20, 33, 60, 80, 120, 400])
@pytest.mark.parametrize("many", [1, 2, 50])
def test_no_line_is_wider_than_asked(width: int, many: int) -> None:
    lines = [Line(f"run {index} 漢字 " * 5, STEPS, falling(50 + index)) for index in range(many)]
    chart = line_chart(lines, width, 20, "a title " * 60, "step " * 90, "loss " * 90)
    assert widest(chart) <= width
    assert max(map(len, chart.splitlines())) > width / 2


def test_an_upright_line_marks_a_place_from_bottom_to_top() -> None:
    mark = Line("here", np.full(2, 500), np.array([0.1, 2.4]))
    places = drawn(line_chart([Line("loss", STEPS, falling(300)), mark], 80, 20), "o")
    assert len(places) > 10
    assert len({column for _, column in places}) == 1


def test_a_spike_of_one_step_is_drawn() -> None:
    values = np.ones(1000)
    values[500] = 9
    top = line_chart([Line("loss", STEPS, values)], 80, 16).splitlines()[2]
    assert any("⠀" < char <= "⣿" for char in top)


def test_values_over_more_than_two_decades_are_drawn_logarithmically() -> None:
    chart = line_chart([Line("loss", STEPS, 10.0 ** (-STEPS / 250))], 80, 20, y_label="loss")
    assert chart.splitlines()[0] == "loss, logarithmic"
    assert [line.split("┤")[0].strip() for line in chart.splitlines() if "┤" in line] == [
        "1",
        "0.1",
        "0.01",
        "0.001",
        "0.0001",
    ]
    assert "logarithmic" not in line_chart([Line("loss", STEPS, falling(100))], y_label="loss")
    assert "logarithmic" not in line_chart([Line("r2", STEPS, falling(100) - 1e6)], y_label="r2")


def test_what_is_not_finite_leaves_a_gap_and_a_note() -> None:
    values = falling(100)
    values[400:600] = np.nan
    values[700] = np.inf
    chart = line_chart([Line("loss", STEPS, values)], 80, 12, x_label="step")
    assert chart.splitlines()[-1] == "loss: 201 not finite, the first at step 401"
    framed = [re.split("[│┤]", line)[1] for line in chart.splitlines() if line.endswith("│")]
    assert len(framed) == 9
    first, last = (round(share * len(framed[0])) for share in (401 / 1000, 600 / 1000))
    assert all(not row[first + 1 : last - 1].strip() for row in framed)
    assert any(row[first - 3 : first].strip() for row in framed)


def test_a_note_is_told_to_its_end_however_narrow_the_chart() -> None:
    chart = line_chart([Line("a loss", STEPS, np.where(STEPS == 401, np.nan, falling(100)))], 30, 8, x_label="step")
    said = " ".join(" ".join(chart.splitlines()).split())
    assert said.endswith("a loss: 1 not finite, the first at step 401")
    assert widest(chart) <= 30


def test_steps_are_marked_at_whole_numbers() -> None:
    for steps in ([1], [1, 2], [3, 4, 5], list(range(8, 13))):
        lines = line_chart([Line("loss", np.array(steps), np.ones(len(steps)))], 120, 8).splitlines()
        marks = lines[next(place for place, line in enumerate(lines) if "└" in line) + 1].split()
        assert marks
        assert all(mark.isdigit() for mark in marks)


@pytest.mark.parametrize("values", [[], [math.nan], [math.inf, -math.inf, math.nan], [1e301]])
def test_a_chart_of_nothing_says_so(values: list[float]) -> None:
    chart = line_chart([Line("loss", np.arange(len(values)), np.array(values))], title="val_loss")
    assert chart.splitlines()[:2] == ["val_loss", "no points to draw"]
    assert line_chart([]) == "no points to draw\n"


@pytest.mark.parametrize("value", [0.0, 0.25, -3.0, 1e-300, 1e299, 1e6])
@pytest.mark.parametrize("count", [1, 2, 500])
def test_one_point_and_a_constant_are_drawn_in_the_middle(value: float, count: int) -> None:
    chart = line_chart([Line("loss", np.arange(1, count + 1), np.full(count, value))], 60, 9)
    rows = [row for row, line in enumerate(chart.splitlines()) if any("⠀" < char <= "⣿" for char in line)]
    assert rows == [4]


ANY = st.floats(width=64, allow_nan=True, allow_infinity=True)


@settings(deadline=None, max_examples=80)
@given(
    curves=st.lists(st.lists(st.tuples(ANY, ANY), max_size=30), max_size=3),
    width=st.integers(20, 120),
    height=st.integers(1, 30),
)
def test_any_numbers_make_a_chart_that_fits(curves: list[list[tuple[float, float]]], width: int, height: int) -> None:
    lines = [Line("x", *np.array(points or np.empty((0, 2))).T) for points in curves]
    chart = line_chart(lines, width, height, "title", "step", "loss")
    assert widest(chart) <= width
    assert chart.endswith("\n")
    assert "\x1b" not in chart


def test_many_threads_draw_at_once() -> None:
    curves = [[Line(str(index), STEPS, falling(50 + 50 * index))] for index in range(6)]
    alone = [line_chart(lines) for lines in curves]
    together: list[str] = [""] * len(curves)

    def draw(index: int) -> None:
        for _ in range(3):
            together[index] = line_chart(curves[index])

    threads = [threading.Thread(target=draw, args=(index,)) for index in range(len(curves))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


# Scales


@given(low=st.floats(-1e12, 1e12), span=st.floats(0, 1e12), most=st.integers(1, 30), exact=st.booleans())
def test_ticks_are_round_rising_and_labelled_apart(low: float, span: float, most: int, exact: bool) -> None:
    scale = linear(low, low + span, most, exact=exact)
    assert scale.low <= low
    assert scale.high >= low + span
    check_ticks(scale, max(most, 2) + 1)


@given(low=st.floats(-300, 290), span=st.floats(2, 300), most=st.integers(2, 30))
def test_logarithmic_ticks_stand_at_powers(low: float, span: float, most: int) -> None:
    high = min(low + span, 300)
    scale = logarithmic(low, high, most)
    assert low - 0.5 <= scale.low <= low + 1e-6
    assert high - 1e-6 <= scale.high <= high + 0.5
    check_ticks(scale, most + 1)
    assert [round(float(f"{10**tick:.3g}") / 10**tick, 2) for tick in scale.ticks] == [1] * len(scale.ticks)


def check_ticks(scale: Scale, most: int) -> None:
    assert 1 <= len(scale.ticks) <= most + 1
    assert scale.ticks == sorted(scale.ticks)
    assert len(set(scale.labels)) == len(scale.labels) == len(scale.ticks)
    margin = (scale.high - scale.low) * 1e-6
    assert scale.low - margin <= scale.ticks[0] <= scale.ticks[-1] <= scale.high + margin


def test_large_steps_are_labelled_in_thousands_and_millions() -> None:
    assert linear(0, 1000, 5).labels == ["0", "200", "400", "600", "800", "1000"]
    assert linear(0, 50_000, 5).labels == ["0", "10k", "20k", "30k", "40k", "50k"]
    assert linear(0, 1_000_000, 4).labels == ["0", "0.25M", "0.50M", "0.75M", "1.00M"]
    assert linear(0, 0.05, 2).labels == ["0", "0.025", "0.050"]


# Tables


def test_a_table_aligns_texts_to_the_left_and_numbers_to_the_right() -> None:
    rows: list[list[Cell]] = [["run-1", 0.0823412, 1120, 0.01], ["run-20", 0.12, 20, 1e-5], ["run-3", None, None, None]]
    assert table(["run", "best", "step", "lr"], rows).splitlines() == [
        "run        best  step     lr",
        "──────  ───────  ────  ─────",
        "run-1   0.08234  1120   0.01",
        "run-20  0.12000    20  1e-05",
        "run-3         -     -      -",
    ]


def test_control_characters_in_names_are_escaped() -> None:
    name = "\x1b[31mred\nline\u202eevil\x00\ud800"
    text = table(["n\tame"], [[name]])
    assert text.splitlines()[2] == r"\x1b[31mred\nline\u202eevil\x00\ud800"
    assert text.splitlines()[0] == r"n\tame"
    chart = line_chart([Line(name, STEPS, falling(10)), Line("b", STEPS, falling(20))], 80, 10, name, name, name)
    assert all(char.isprintable() for char in chart.replace("\n", ""))
    chart.encode()


def test_a_table_too_wide_shortens_texts_and_then_leaves_columns_out() -> None:
    rows: list[list[Cell]] = [["20251123-ab12cd34", "a long name of a run that goes on", 0.5, 12, "x" * 30]]
    headers = ["run_id", "name", "best", "step", "note"]
    for width in range(20, 120):
        text = table(headers, rows, width)
        assert widest(text) <= width
        assert text.count("\n") == (3 if "note" in text else 4)
        assert "20251123-ab12cd34" in text, "an id that is cut is none"
    assert "20251123-ab12cd34  a long name…" in table(headers, rows, 60)
    assert table(headers, rows, 40).splitlines()[-1] == "… columns left out: 2"


def test_words_stand_for_what_is_no_number() -> None:
    rows: list[list[Cell]] = [[math.nan, True], [math.inf, False], [-math.inf, None], [1.5, True]]
    assert table(["value", "done"], rows).splitlines()[2:] == [
        "      NaN  true",
        " Infinity  false",
        "-Infinity  -",
        "      1.5  true",
    ]


def test_wide_characters_take_two_cells() -> None:
    lines = table(["name", "n"], [["漢字", 1], ["ab", 2]]).splitlines()
    assert {cell_len(line) for line in lines} == {7}


def test_a_table_without_rows_has_its_headers() -> None:
    assert table(["a", "b"], []).splitlines() == ["a  b", "─  ─"]
