"""The program: `jaxgrader`, or `python -m jaxgrader` where only a Python is known.

It loads nothing of ours before it has kept `rfc3987_syntax` away: a grammar that
`jsonschema` loads wherever it is installed, to check addresses in languages other than
English. No notebook has one, and it is half of what a command needs to start.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


#: With these a batch has no workers here, as far as its arguments tell.
ELSEWHERE = {"-h", "--help", "--help-all", "--dry-run", "--executor"}


def main() -> None:
    """Run the program; where it will have workers, they start beside it."""
    words = [word.partition("=")[0] for word in sys.argv[1:]]
    if words[:1] == ["autograde"] and ELSEWHERE.isdisjoint(words):
        from jaxgrader.batch import local

        local.preload()
    from jaxgrader import cli

    cli.main()


if __name__ == "__main__":
    sys.argv[0] = "jaxgrader"  # what messages and the lock call it
    main()
