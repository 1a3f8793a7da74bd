"""A page of galleries: images with captions."""

from collections.abc import Sequence
from dataclasses import dataclass

from tinylab.reporting.charts import Chart
from tinylab.reporting.tables import Table


@dataclass(frozen=True)
class Item:
    """An image, or several that belong together: data: URLs, caption, and files."""

    pictures: Sequence[str]
    words: str
    files: Sequence[str]


@dataclass(frozen=True)
class Gallery:
    """Images under a heading."""

    title: str
    caption: str
    items: Sequence[Item]


@dataclass(frozen=True)
class Galleries:
    """The whole page. summary: its first sentences. repeat: the command that writes it."""

    title: str
    summary: Sequence[str]
    galleries: Sequence[Gallery]
    repeat: str
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()


@dataclass(frozen=True)
class Explanation:
    """Why a network gives images their classes. missing: sentences on what cannot be shown."""

    missing: Sequence[str]
    galleries: Sequence[Gallery] = ()
    charts: Sequence[Chart] = ()
