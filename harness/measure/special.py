"""The functions of `scipy.special` that inference needs: quantiles and tails of Student's t and of a few others.

scipy takes a quarter of a second to import, and most processes that import what infers come to infer nothing. So it is
imported when one of these is first called.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def _of_scipy(name: str) -> Callable[..., Any]:
    def function(*arguments: Any) -> Any:
        return getattr(importlib.import_module("scipy.special"), name)(*arguments)

    return function


bdtrc = _of_scipy("bdtrc")
chdtri = _of_scipy("chdtri")
gammaln = _of_scipy("gammaln")
nctdtrinc = _of_scipy("nctdtrinc")
ndtri = _of_scipy("ndtri")
stdtr = _of_scipy("stdtr")
stdtrit = _of_scipy("stdtrit")
xlogy = _of_scipy("xlogy")
