"""`python -m flows.manual`: write the pages of docs/ that are made, and the parts of others."""

import re
import sys
from pathlib import Path

from flows.manual.page import page, page_name
from flows.manual.tables import endpoint_rows, navigation, overview, settings_page
from schemas.endpoints import ENDPOINTS

ROOT = Path(__file__).parents[2]
FOLDER = "docs/endpoints"
COMMAND = "python -m flows.manual"
MARK = "^ *(?:<!--|#) "  # of a document, or of YAML
PART = re.compile(rf"({MARK}endpoints: made by `{COMMAND}`[^\n]*\n).*?({MARK}/endpoints\b)", re.DOTALL | re.MULTILINE)


def pages() -> dict[str, str]:
    """Every file that is made, wholly or in part, by its path in the repository."""
    made = {f"{FOLDER}/{page_name(name)}": page(endpoint) for name, endpoint in ENDPOINTS.items()}
    return {
        **made,
        f"{FOLDER}/index.md": overview(),
        "docs/settings.md": settings_page(),
        "README.md": _with_part("README.md", endpoint_rows(f"{FOLDER}/")),
        "docs/index.md": _with_part("docs/index.md", endpoint_rows("endpoints/")),
        "mkdocs.yml": _with_part("mkdocs.yml", navigation("endpoints/")),
    }


def _with_part(name: str, lines: list[str]) -> str:
    """A file whose part between the two marks is made of these lines."""
    text = (ROOT / name).read_text(encoding="utf-8")
    part = "".join(f"{line}\n" for line in lines)
    return PART.sub(lambda found: f"{found[1]}{part}{found[2]}", text)


def main() -> int:
    """Write all of them, and remove pages of endpoints that are no more."""
    wanted = pages()
    for path in (ROOT / FOLDER).glob("*.md"):
        if str(path.relative_to(ROOT)) not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (ROOT / name).parent.mkdir(exist_ok=True)
        (ROOT / name).write_text(text, encoding="utf-8")
    print("\n".join(wanted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
