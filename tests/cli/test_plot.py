from __future__ import annotations

from finetune_cli.plot import curve


def test_a_falling_line_goes_from_the_upper_left_to_the_lower_right() -> None:
    lines = curve([(step, 10.0 - step) for step in range(11)], width=10, height=4).splitlines()
    assert len(lines) == 1 + 4 + 2
    assert lines[1].startswith("10 ┤")
    assert lines[4].lstrip().startswith("0 ┤")
    top, bottom = lines[1].partition("┤")[2], lines[4].partition("┤")[2]
    assert top[0] != "⠀"
    assert bottom[-1] != "⠀"
    assert set(bottom[:5]) == {"⠀"}
    assert lines[-1].split() == ["0", "step", "10"]


def test_one_point_is_no_curve() -> None:
    assert curve([]) == curve([(1, 2.0)]) == ""


def test_equal_and_missing_numbers() -> None:
    assert "┤" in curve([(1, 2.0), (2, float("nan")), (9, 2.0)])


def test_many_points_fit_the_width() -> None:
    text = curve([(step, float(step % 7)) for step in range(5000)], width=20)
    assert max(len(line) for line in text.splitlines()) <= 20 + 8
