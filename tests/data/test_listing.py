"""Which files are there: class folders and `labels.csv` agree, and what is wrong is named."""

import csv
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_files import encoded, fill, picture
from option_records import FolderConfig
from tinylab import data
from tinylab.config.schema import SplitConfig
from tinylab.data import part_of
from tinylab.data.class_tree import class_folders
from tinylab.data.label_table import table
from tinylab.data.listing import Listing
from tinylab.errors import UserError


def written(root: Path, *rows: str, head: str = "path,label") -> Path:
    """A folder with a table of these rows, in which an image ``x.png`` lies."""
    fill(root, "x.png")
    (root / "labels.csv").write_text("\n".join([head, *rows]))
    return root


def refusal(root: Path, skip_bad: bool = False) -> str:
    with pytest.raises(UserError) as error:
        table(root, skip_bad)
    return str(error.value)


def as_rows(files: Listing) -> list[tuple[str, str]]:
    return [
        (name, files.classes[label]) for name, label in zip(files.names, files.labels, strict=True)
    ]


# ---------------------------------------------------------------- class folders


def test_what_is_passed_over_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, "a/1.png", "a/2.HEIC", "a/deep/3.heic", "b/1.png", "b/notes", "b/.x")
    assert class_folders(tmp_path).names == ("a/1.png", "b/1.png")
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path}: skipped files without an image suffix: 2 .heic, 1 ")
    assert "1 without a suffix" in said


def test_folders_inside_a_class_folder_belong_to_the_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, "a/2.png", "a/10.png", "a/x/y/1.png", "b/deep/1.png")
    (tmp_path / "a" / "x" / "circle").symlink_to(tmp_path / "a")
    files = class_folders(tmp_path)
    assert files.names == ("a/2.png", "a/10.png", "a/x/y/1.png", "b/deep/1.png")
    assert files.labels.tolist() == [0, 0, 0, 1]
    assert "2 images are in subfolders of class folders, such as a/x" in capsys.readouterr().out


def test_nothing_is_said_where_nothing_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class_folders(fill(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"))
    assert capsys.readouterr().out == ""


# ---------------------------------------------------------------- the table


@given(st.randoms(), st.booleans())
def test_a_table_in_any_order_is_the_same_as_class_folders(
    tmp_path_factory: pytest.TempPathFactory, draw: random.Random, has_test: bool
) -> None:
    parts = ["train/", "test/"] if has_test else [""]
    names = [f"{part}{c}/{i}.png" for part in parts for c in ("2", "10", "é b") for i in (1, 9, 10)]
    root = fill(tmp_path_factory.mktemp("data"), *names)
    expected = class_folders(root)
    draw.shuffle(names)
    with (root / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "note", "label", "path"] if has_test else ["label", "path"])
        for name in names:
            *part, label, _ = name.split("/")
            writer.writerow([*part, "of no matter", label, name] if has_test else [label, name])
    result = table(root, skip_bad=False)
    assert as_rows(result) == as_rows(expected)
    assert (result.classes, result.num_test) == (expected.classes, expected.num_test)


def test_dataset_folder_reads_the_table_where_there_is_one(tmp_path: Path) -> None:
    fill(tmp_path, "ignored/1.png", "pics/one.png", "two words.png", 'it\'s "2".png')
    fill(tmp_path, "pics/white.png", content=encoded(image=np.full((4, 4, 3), 255, np.uint8)))
    rows = ["pics/white.png, bright ", "two words.png,dark", '"it\'s ""2"".png",dark']
    written(tmp_path, *rows, "./pics//one.png,dark", "")
    dataset = part_of(FolderConfig(root=str(tmp_path), image_size=4)).find().read()
    assert dataset.classes == ("bright", "dark")
    assert dataset.names == ("pics/white.png", 'it\'s "2".png', "pics/one.png", "two words.png")
    assert dataset.labels.tolist() == [0, 1, 1, 1]
    assert dataset.pixels[0].min() == 255 > dataset.pixels[1:].min()


def test_a_mark_of_byte_order_is_no_part_of_the_header(tmp_path: Path) -> None:
    written(fill(tmp_path, "y.png"), "x.png,a", "y.png,b", head="\ufeffpath,label")
    assert table(tmp_path, skip_bad=False).names == ("x.png", "y.png")


def test_changed_labels_are_noticed_though_no_image_changed(
    tmp_path: Path, own_cache: Path
) -> None:
    names = [f"{i}.png" for i in range(20)]
    for i, name in enumerate(names):
        fill(tmp_path / "data", name, content=encoded(image=picture(seed=i)))
    config = FolderConfig(root=str(tmp_path / "data"), image_size=4)
    results = []
    for odd in ("a", "b"):
        rows = [f"{name},{odd if i == 0 else 'ab'[i % 2]}" for i, name in enumerate(names)]
        written(tmp_path / "data", *rows)
        results.append(data.load(config, SplitConfig(stratified=True)))
    assert results[0].fingerprint != results[1].fingerprint
    assert [np.bincount(each.data.labels).tolist() for each in results] == [[10, 10], [9, 11]]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("../x.png,a", "../x.png: expected a path inside the folder of labels.csv"),
        ("y/../../x.png,a", "../x.png: expected a path inside the folder of labels.csv"),
        ("/etc/x.png,a", "/etc/x.png: expected a path inside the folder of labels.csv"),
        ("gone.png,a", "gone.png: no such file"),
        ("x.jpg,a", "x.jpg: no such file; there is x.png"),
        ("y,a", "y: not an image suffix (.jpg, .jpeg, .jpe, .png, ...)"),
        ("x.png,", "expected a path and a label"),
        (" ,a", "expected a path and a label"),
        ("x.png", "expected a path and a label"),
        (
            "x.png,one, two",
            'more cells than the header; quote names with a comma: "a, b.jpg",label',
        ),
        ("a\0b.png,a", "expected a path and a label"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(row: str, fault: str, tmp_path: Path) -> None:
    written(tmp_path, "x.png,b", row)
    assert refusal(tmp_path) == f"{tmp_path}/labels.csv: line 3: {fault}"


def test_all_wrong_rows_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, *(f"gone{i}.png,a" for i in range(25)), "x.png,b", "./x.png,b")
    assert refusal(tmp_path).endswith("line 2: gone0.png: no such file (and 25 more wrong rows)")
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "  line 2: gone0.png: no such file"
    assert said[-1] == "  and 6 more"
    assert len(said) == 21


def test_a_file_listed_twice_is_wrong(tmp_path: Path) -> None:
    written(tmp_path, "x.png,b", "./x.png,a")
    assert refusal(tmp_path).endswith("line 3: x.png: already in line 2")


def test_a_split_is_train_val_or_test(tmp_path: Path) -> None:
    written(tmp_path, "x.png,b,dev", head="path,label,split")
    assert refusal(tmp_path).endswith("line 2: split dev: expected train, val or test")


@pytest.mark.parametrize("words", [("train", "val", "test"), ("Training", "valid", "TEST")])
def test_a_split_column_gives_all_three_parts(tmp_path: Path, words: tuple[str, ...]) -> None:
    names = [f"{i}.png" for i in range(6)]
    rows = [f"{name},{'ab'[i % 2]},{words[i // 2]}" for i, name in enumerate(names)]
    written(fill(tmp_path, *names), *rows, head="path,label,Split")
    files = table(tmp_path, skip_bad=False)
    assert (files.names, files.num_val, files.num_test) == (tuple(names), 2, 2)


@pytest.mark.parametrize(
    ("head", "rows"),
    [
        ("id,label", ["1,a", "2,b"]),
        ("Path, label", ["pics\\1.jpg,a", "pics\\2.JPG,b"]),
        ("label,Image", ["a,{root}/pics/1.jpg", "b,{root}/pics/2.JPG"]),
        ("filename,class", ["1.jpg,a", "2.jpg,b"]),
        ("path,label,id", ["pics/1,a,7", "PICS/2.jpg,b,8"]),
        ("path;label;size", ["pics/1.jpg;a;0,5", "pics/2.JPG;b;0,5", ";;"]),
        ("path\tlabel", ["pics/1.jpg\ta", "", "pics/2.JPG\tb"]),
    ],
)
def test_tables_as_people_have_them_are_read(tmp_path: Path, head: str, rows: list[str]) -> None:
    fill(tmp_path, "pics/1.jpg", "pics/2.JPG", "pics/10.jpg")
    (tmp_path / "labels.csv").write_text(
        "\r\n".join([head, *(row.format(root=tmp_path) for row in rows)])
    )
    files = table(tmp_path, skip_bad=False)
    assert as_rows(files) == [("pics/1.jpg", "a"), ("pics/2.JPG", "b")]


def test_a_path_through_a_link_to_the_folder_is_inside_it(tmp_path: Path) -> None:
    fill(tmp_path / "real", "x.png", "y.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    written(tmp_path / "real", f"{tmp_path}/real/x.png,a", f"{tmp_path}/link/y.png,b")
    assert table(tmp_path / "link", skip_bad=False).names == ("x.png", "y.png")


def test_names_and_labels_in_either_unicode_form_are_found(tmp_path: Path) -> None:
    one, two = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    fill(tmp_path, f"{two}1.png", f"{one}2.png", "z.png")
    written(tmp_path, f"{one}1.png,{one}", f"{two}2.png,{two}", "z.png,z")
    files = table(tmp_path, skip_bad=False)
    assert as_rows(files) == [("z.png", "z"), (f"{two}1.png", one), (f"{one}2.png", one)]


def test_a_name_that_fits_several_files_is_wrong(tmp_path: Path) -> None:
    fill(tmp_path, "a/1.png", "b/1.png")
    written(tmp_path, "x.png,b", "1,a")
    assert refusal(tmp_path).endswith("line 3: 1: ambiguous, may be any of a/1.png, b/1.png")


def test_of_equal_names_the_one_in_the_folder_of_the_rows_part_is_meant(tmp_path: Path) -> None:
    fill(tmp_path, "Train/1.png", "Train/2.png", "test/1.png", "test/2.png")
    written(tmp_path, "1,a,train", "2,b,train", "1,b,test", "2,a,test", head="id,label,split")
    files = table(tmp_path, skip_bad=False)
    assert files.names == ("Train/1.png", "Train/2.png", "test/2.png", "test/1.png")


def test_skip_bad_leaves_out_files_that_are_not_there(tmp_path: Path) -> None:
    written(fill(tmp_path, "y.png"), "x.png,a", "y.png,b", "gone.png,b")
    options = {"root": str(tmp_path), "skip_bad": True}
    assert part_of(FolderConfig(**options)).find().read().names == ("x.png", "y.png")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the header is empty; expected path,label"),
        ("x.png,a\n", "the header is x.png,a; expected path,label and optionally split"),
        (
            'path,label\n"x.png,a\n1.png,b\n',
            'line 3: a cell with a line break; is a closing " missing?',
        ),
        ("path,label\nx.png,0.25\n", "labels such as 0.25 are measurements"),
        ("path,label\n", "0 classes in the training rows; expected at least two"),
        ("path,label\nx.png,\xe9\n", "expected a CSV table in UTF-8 ("),
        (f"path,label\n{'x' * 200_000},a\n", "expected a CSV table in UTF-8 (field larger"),
    ],
)
def test_what_is_no_such_table_is_refused(text: str, message: str, tmp_path: Path) -> None:
    fill(tmp_path, "x.png")
    (tmp_path / "labels.csv").write_bytes(text.encode("latin-1"))
    assert message in refusal(tmp_path)


def test_a_class_without_training_rows_is_named(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "2.png", "3.png")
    written(tmp_path, "1.png,a,train", "2.png,b,train", "3.png,c,test", head="path,label,split")
    assert refusal(tmp_path).endswith("only in test rows: c; expected training rows too")
