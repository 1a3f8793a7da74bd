"""What a folder of images is does not depend on where it lies, and does on every file."""

import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from image_files import encoded, fill, picture
from option_records import AdamConfig, DigitsConfig, FolderConfig, MlpConfig, Scene15Config
from tinylab import data
from tinylab.config.identity import run_id
from tinylab.config.schema import Config
from tinylab.errors import UserError


def config(root: Path | str, **options: object) -> Config:
    dataset = FolderConfig(root=str(root), **options)
    return Config(dataset=dataset, model=MlpConfig(), optim=AdamConfig())


def id_of(root: Path | str, **options: object) -> str:
    return run_id(data.identified(config(root, **options)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return fill(tmp_path / "photos", "a/1.png", "a/2.png", "b/1.png")


def test_spelling_name_and_disk_make_no_other_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = id_of(photos)
    monkeypatch.chdir(tmp_path)
    assert {
        id_of("photos"),
        id_of("photos/"),
        id_of("./photos"),
        id_of("../" + tmp_path.name + "/photos"),
    } == {first}
    copy = shutil.copytree(photos, tmp_path / "other disk" / "pictures")
    assert id_of(copy) == first
    photos.rename(tmp_path / "renamed")
    assert id_of("renamed") == first


def test_two_projects_that_say_photos_are_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for number, project in enumerate(("one", "two")):
        content = encoded(image=picture(number))
        fill(tmp_path / project / "photos", "a/1.png", "b/1.png", content=content)
        monkeypatch.chdir(tmp_path / project)
        ids.append(id_of("photos"))
    assert len({*ids}) == 2


def test_an_image_more_or_other_is_another_run(photos: Path) -> None:
    ids = [id_of(photos)]
    fill(photos, "b/2.png")
    ids.append(id_of(photos))
    fill(photos, "b/2.png", content=encoded(image=picture(7)))
    ids.append(id_of(photos))
    (photos / "b" / "2.png").rename(photos / "a" / "3.png")
    ids.append(id_of(photos))
    assert len({*ids}) == 4


def test_a_replaced_file_of_equal_size_and_time_is_seen(photos: Path) -> None:
    file = photos / "a" / "1.png"
    before, status = id_of(photos), file.stat()
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert id_of(photos) != before


def test_names_composed_or_not_are_one_name(tmp_path: Path) -> None:
    ids = set()
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, "Bäume")
        ids.add(id_of(fill(tmp_path / form, f"{name}/1.png", "b/1.png")))
    assert len(ids) == 1


def test_known_files_are_not_read_again(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = id_of(photos)
    monkeypatch.setattr("tinylab.data.content._sha256", lambda file: pytest.fail("read again"))
    assert id_of(photos) == first


def test_data_of_one_name_needs_no_look_at_its_files() -> None:
    for dataset in (DigitsConfig(), Scene15Config(root="/nowhere")):
        named = Config(dataset=dataset, model=MlpConfig(), optim=AdamConfig())
        assert data.identified(named) == named


def test_a_content_that_is_said_must_be_that_of_the_files(photos: Path) -> None:
    result = data.identified(config(photos)).dataset.content  # type: ignore[attr-defined]
    assert id_of(photos, content=result) == id_of(photos)
    with pytest.raises(UserError, match=r"dataset\.content=00: the files in .*photos differ"):
        data.identified(config(photos, content="00"))
