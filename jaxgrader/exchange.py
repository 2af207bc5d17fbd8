"""The exchange: what students put there is not to be trusted."""

import os
from pathlib import Path

from nbgrader.exchange.default import ExchangeCollect as StockCollect


class ExchangeCollect(StockCollect):
    """Collect, but nothing that holds a link: `c.ExchangeFactory.collect`.

    Collecting copies with the instructor's rights, and a copy follows links. A student
    who submits a link to `source/` or to the gradebook would be handed its contents.
    """

    src_records: list[dict[str, str]]  # set by nbgrader's init_src

    def init_src(self) -> None:
        """Called by nbgrader to find what to collect."""
        super().init_src()
        self.src_records = list(filter(self.is_plain, self.src_records))

    def is_plain(self, record: dict[str, str]) -> bool:
        """Whether a submission holds no links; says so if it does."""
        path = Path(self.inbound_path, record["filename"])
        link = find_link(path)
        if link is not None:
            self.log.error(LINK.format(path=path, link=link))
        return link is None


def find_link(folder: Path) -> Path | None:
    """Return a symbolic link in `folder`, relative to it, or None."""
    if folder.is_symlink():
        return Path(folder.name)
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            if path.is_symlink():
                return path.relative_to(folder)
    return None


LINK = (
    "{path} is not collected: {link} in it is a symbolic link. Ask the student to "
    "submit the file itself."
)
