"""Tables as pandas data frames; pandas is imported only on use."""

from typing import Any

from tinylab.errors import UserError


def pandas() -> Any:
    """Import pandas. Raises UserError if it is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise UserError("tables in Python need pandas: pip install pandas") from error
    return pandas
