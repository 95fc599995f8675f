"""What a benchmark needs of the machine: one line says what is missing, and the command."""

import importlib.util
import shutil
import sys
from collections.abc import Iterable

#: Programs, and the Debian package of each.
PACKAGES = {"wrk": "wrk", "h2load": "nghttp2-client"}
#: Modules whose distribution has another name.
DISTRIBUTIONS = {"multipart": "python-multipart"}


def need(modules: Iterable[str] = (), programs: Iterable[str] = ()) -> None:
    """Exit unless the modules can be imported and the programs are there."""
    lines = []
    packages = [PACKAGES[name] for name in programs if shutil.which(name) is None]
    if packages:
        lines.append(f"apt-get install {' '.join(packages)}")
    missing = [
        DISTRIBUTIONS.get(name, name)
        for name in dict.fromkeys(modules)
        if importlib.util.find_spec(name) is None
    ]
    if missing:
        lines.append(f"{sys.executable} -m pip install {' '.join(missing)}")
    if lines:
        sys.exit(f"{sys.argv[0]}: run `{' && '.join(lines)}`, or `make bench` for all")
