"""A comparison in LaTeX: what is escaped, bold, marked."""

from pathlib import Path

import pytest

from compare_kit import write_run
from tinylab.comparison.comparison import compare
from tinylab.comparison.latex import as_latex, escaped
from tinylab.store.collect import collect


def test_no_character_of_a_text_is_a_command() -> None:
    assert escaped(r"a_b 5% {x} #1 & $ ~ ^") == (
        r"a\_b 5\% \{x\} \#1 \& \$ \textasciitilde{} \textasciicircum{}"
    )
    assert escaped("\\") == r"\textbackslash{}"
    assert escaped('<5 | "a" >') == r"\textless{}5 \textbar{} ''a'' \textgreater{}"


def latex(outputs: Path, metric: str = "val_accuracy") -> list[str]:
    return as_latex(compare(collect([outputs])[0], metric=metric)).splitlines()


def bold(lines: list[str]) -> list[str]:
    """The letters of the settings in bold."""
    return [line.split()[0] for line in lines if r"\textbf" in line]


@pytest.mark.costly
def test_nothing_is_bold_where_no_difference_is_shown(tmp_path: Path) -> None:
    for size, val in ((16, 0.9), (32, 0.8), (64, 0.9)):
        write_run(tmp_path, 90, val, train__batch_size=size)
    lines = latex(tmp_path, "val_loss")
    assert bold(lines) == []
    text = "\n".join(lines)
    assert r"No difference is significant ($p \geq 0.05$), so none is bold." in text
    assert "CI: over the choice of test images (Wilson). $p$: of the difference" in text
    head = lines.index(r"    \toprule")
    assert lines[head + 1] == r"     & train. &  & validation & test & 95\% CI & $p$ \\"
    assert lines[head + 2] == (
        r"     & batch\_size & runs & loss & accuracy (\%) & of one test set & vs. A \\"
    )
    assert lines[head + 4] == r"    A & 16 & 1 & 0.1000 & 90.00 & [82.56, 94.48] & -- \\"
    assert lines[head + 5].endswith(r"& 1.000 \\")


@pytest.mark.costly
def test_the_selected_setting_is_bold_with_those_not_shown_to_be_worse(tmp_path: Path) -> None:
    for size, right in ((16, 90), (32, 91), (64, 50)):
        write_run(tmp_path, right, 1 - size / 100, train__batch_size=size)
    lines = latex(tmp_path)
    assert bold(lines) == ["A", "B"], "the best on the test set by itself is not enough"
    expected = "Bold: A, and the settings compared with it that are not significantly worse"
    assert expected in "\n".join(lines)
    [last] = [line for line in lines if line.strip().startswith("C &")]
    assert last.endswith(r"& $<$0.001 \\")


@pytest.mark.costly
def test_without_validation_every_setting_has_its_p_values(tmp_path: Path) -> None:
    for size, right in ((16, range(50)), (32, range(20, 100)), (64, range(20, 99))):
        write_run(tmp_path, right, None, train__batch_size=size)
    lines = latex(tmp_path)
    assert bold(lines) == ["B", "C"]
    assert any("& vs. A & vs. B" in line for line in lines)
    [last] = [line for line in lines if line.strip().startswith("C &")]
    assert last.endswith(r"& 0.001 & 1.000 \\")
    assert "not significantly worse than any other that they were tested against" in "\n".join(
        lines
    )


@pytest.mark.costly
def test_a_setting_alone_is_a_table_too(tmp_path: Path) -> None:
    write_run(tmp_path, 90, None)
    lines = latex(tmp_path)
    assert r"    A & digits baseline & 1 & 90.00 & [82.56, 94.48] \\" in lines
    [caption] = [line for line in lines if "caption" in line]
    assert "$p$" not in caption
    assert "old" not in caption


@pytest.mark.costly
def test_every_dataset_has_its_own_table(tmp_path: Path) -> None:
    write_run(tmp_path, 90)
    write_run(tmp_path, 90, dataset="torchvision")
    assert latex(tmp_path).count(r"\begin{table}") == 2
