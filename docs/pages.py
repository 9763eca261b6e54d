"""What the site is made of: the documents where they stand in the checkout, and what they link to beside them.

Who calls this: mkdocs, as a hook named in mkdocs.yml. A page keeps its place (docs/install.md), so that a link means
the same in a file view and on the site. A link to a file that is no document leads to a page that shows the file, one
to a folder to a page that lists it: the site is whole without a network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ("*.md", "docs/*.md", "benchmarks/*.md", "charts/*/README.md", "tests/cluster/README.md")
ASSETS = ("docs/*.css", "docs/images/*", "benchmarks/results/*.svg")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}
FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
FETCHED = re.compile(r"<(?:script|img|iframe|link|source)\b[^>]*\b(?:src|href)=\"https?:[^>]*>")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")


def slug(title: str, separator: str = "-") -> str:
    """What a link may name after #, as GitHub makes it of a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", separator)


def found(patterns: tuple[str, ...]) -> Iterator[PurePosixPath]:
    """Files of the checkout, relative to it."""
    for pattern in patterns:
        yield from (PurePosixPath(path.relative_to(ROOT)) for path in sorted(ROOT.glob(pattern)) if path.is_file())


def linked(document: PurePosixPath) -> Iterator[PurePosixPath]:
    """What a document links to that is neither a document nor shown in one."""
    for part in FENCED.split((ROOT / document).read_text(encoding="utf-8"))[::2]:
        for target in LINK.findall(part):
            path = PurePosixPath(normpath(document.parent / target))
            if path.suffix not in (".md", ".svg", ".png") and (ROOT / path).exists():
                yield path


def within(folder: PurePosixPath) -> list[PurePosixPath]:
    """Files and folders in a folder, without those that no one looks for."""
    names = sorted(item.name for item in (ROOT / folder).iterdir() if not item.name.startswith(("_", ".")))
    return [folder / name for name in names]


def shown(path: PurePosixPath) -> tuple[str, str]:
    """Name and source of the page that stands for a file or folder."""
    if (ROOT / path).is_dir():
        lines = [f"- [{item.name}]({item.name})\n" if is_text(item) else f"- {item.name}\n" for item in within(path)]
        return f"{path}/index.md", f"# {path}/\n\n{''.join(lines)}"
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"{path}.md", f"# {path}\n\n````{LANGUAGES.get(path.suffix, 'text')}\n{text}````\n"


def is_text(path: PurePosixPath) -> bool:
    """Whether a file is shown."""
    return path.suffix in LANGUAGES and (ROOT / path).is_file()


def on_config(config: MkDocsConfig) -> None:
    """Headings get the anchors that they have on GitHub."""
    config.mdx_configs["toc"]["slugify"] = slug


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Documents, pictures, and pages for whatever else is linked, in place of what mkdocs finds in docs/."""
    documents = list(found(DOCUMENTS))
    listed = {target for document in documents for target in linked(document)}
    listed |= {item for path in listed if (ROOT / path).is_dir() for item in within(path) if is_text(item)}
    ours = [
        File(str(path), str(ROOT), config.site_dir, use_directory_urls=False) for path in (*documents, *found(ASSETS))
    ]
    aside = InclusionLevel.NOT_IN_NAV
    made = [File.generated(config, name, content=text, inclusion=aside) for name, text in map(shown, sorted(listed))]
    return Files([*(file for file in files if file.src_dir != config.docs_dir), *ours, *made])


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """The document, with links to files and folders led to the pages that show them."""
    here = PurePosixPath(page.file.src_uri).parent

    def lead(match: re.Match[str]) -> str:
        path = PurePosixPath(normpath(here / match[0]))
        if path.suffix in (".md", ".svg", ".png") or not (ROOT / path).exists():
            return match[0]
        return relpath(shown(path)[0], here)

    parts = FENCED.split(markdown)
    return "".join(part if index % 2 else LINK.sub(lead, part) for index, part in enumerate(parts))


def on_post_page(output: str, page: Page, **_: Any) -> None:
    """Nothing is fetched from elsewhere to show a page.

    Raises:
        PluginError: something would be.
    """
    if fetched := FETCHED.findall(output):
        raise PluginError(f"{page.file.src_uri} would need a network: {fetched}")
