"""Builds the extension modules; everything else about the package stands in pyproject.toml.

FASTECHO_BUILD chooses the kind of build:

release (default)  optimised, no checks
debug              -O0 -g, bounds and overflow checks, the invariants of _compat.h asserted
coverage           line tracing, for `make coverage`

FASTECHO_SANITIZE adds sanitizers of the C compiler to any of them: `address,undefined`. The processes that import such
a build need `LD_PRELOAD` of the sanitizers' libraries.
"""

import os
import re
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS = {
    "release": {
        "cflags": ["-O3", "-g0", *(["-fno-plt", "-fno-semantic-interposition"] if sys.platform == "linux" else [])],
        "macros": [("CYTHON_WITHOUT_ASSERTIONS", "1")],
        "directives": {},
    },
    "debug": {
        "cflags": ["-O0", "-g", "-UNDEBUG"],
        "macros": [("FASTECHO_DEBUG", "1")],
        "directives": {"boundscheck": True, "overflowcheck": True, "initializedcheck": True},
    },
    "coverage": {
        "cflags": ["-O0"],
        "macros": [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")],
        "directives": {"linetrace": True},
    },
}
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "binding": False,
    "autotestdict": False,
}

kind = os.environ.get("FASTECHO_BUILD") or "release"
if kind not in KINDS:
    sys.exit(f"FASTECHO_BUILD={kind}: must be one of {', '.join(KINDS)}")
chosen = KINDS[kind]
sanitizers = os.environ.get("FASTECHO_SANITIZE") or ""
# Python's own flags (-fwrapv) define the overflow of signed integers, which would hide it.
sanitizing = [f"-fsanitize={sanitizers}", "-fno-wrapv", "-fno-omit-frame-pointer", "-g"] if sanitizers else []
root = Path(__file__).parent
headers = [str(path.relative_to(root)) for end in ("h", "pxd") for path in root.glob(f"src/fastecho/**/*.{end}")]
extensions = [
    Extension(
        ".".join(path.relative_to(root / "src").with_suffix("").parts),
        [str(path.relative_to(root))],
        depends=headers,
        extra_compile_args=[*chosen["cflags"], *sanitizing],
        extra_link_args=sanitizing,
        define_macros=chosen["macros"],
        include_dirs=["src/fastecho"],
    )
    for path in sorted(root.glob("src/fastecho/**/*.pyx"))
]


def readme() -> str:
    """README.md for the page of the package: there its links lead into the repository, to this version."""
    text = (root / "README.md").read_text(encoding="utf-8")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository = project.get("urls", {}).get("Source")
    if repository is None:
        return text

    def absolute(link: "re.Match[str]") -> str:
        kind = "raw" if link[2].endswith((".svg", ".png")) else "blob"
        return f"{link[1]}{repository}/{kind}/v{project['version']}/{link[2]}"

    return re.sub(r'(\]\(|(?:href|src|srcset)=")(?!#|[a-z]+:)([^)"\s]+)', absolute, text)


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
    ext_modules=cythonize(
        extensions,
        build_dir=f"build/cython-{'-'.join(filter(None, [kind, sanitizers, sys.implementation.cache_tag]))}",
        compiler_directives={**DIRECTIVES, **chosen["directives"]},
    ),
)
