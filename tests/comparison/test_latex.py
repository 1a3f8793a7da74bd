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


@pytest.mark.costly
def test_equal_means_are_both_bold_and_the_lowest_loss_is(tmp_path: Path) -> None:
    for size, val in ((16, 0.9), (32, 0.8), (64, 0.9)):
        write_run(tmp_path, 90, val, train__batch_size=size)
    lines = latex(tmp_path, "val_loss")
    assert [line.count(r"\textbf{0.1000}") for line in lines if " & 1 & " in line] == [1, 1, 0]
    assert sum(line.count(r"\textbf{90.00}") for line in lines) == 3
    head = lines.index(r"    \toprule")
    assert lines[head + 1] == r"     & train. &  & validation & test \\"
    assert lines[head + 2] == r"     & batch\_size & runs & loss & accuracy (\%) \\"


@pytest.mark.costly
def test_a_setting_alone_is_a_table_too(tmp_path: Path) -> None:
    write_run(tmp_path, 90, None)
    lines = latex(tmp_path)
    assert r"    A & digits baseline & 1 & \textbf{90.00} \\" in lines
    assert not any("superscript" in line for line in lines)


@pytest.mark.costly
def test_every_dataset_has_its_own_table(tmp_path: Path) -> None:
    write_run(tmp_path, 90)
    write_run(tmp_path, 90, dataset="torchvision")
    assert latex(tmp_path).count(r"\begin{table}") == 2
