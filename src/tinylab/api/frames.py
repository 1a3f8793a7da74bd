"""Tables for Python: pandas, which only those need who ask for one."""

from typing import Any

from tinylab.errors import UserError


def pandas() -> Any:
    """The library. Raises UserError where it is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise UserError("tables in Python need pandas: pip install pandas") from error
    return pandas
