"""``python -m models [size ...]``: the SHA-256 of every model written here, as JSON; of the tiny ones by default."""

from __future__ import annotations

import json
import sys

from . import WRITTEN


def main() -> None:
    sizes = sys.argv[1:] or ["tiny"]
    hashes = {model.id: model.source.digest() for model in WRITTEN if model.size in sizes}
    print(json.dumps(hashes, indent=2, sort_keys=True))


if __name__ == "__main__":
    main()
