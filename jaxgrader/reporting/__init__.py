"""What people see of a class's grades: a terminal, files for other programs, a page.

    terminal.py    a batch and a course's state, on a terminal
    export.py      tables for spreadsheets and scripts
    page.py        the class report: one page of HTML; its parts are
    plots.py         plots as SVG
    figures.py       what the page says, as records
    structure.py     what the tests of a program's structure found
    mistakes.py      the same mistake of many students as one
    pseudonyms.py    the class without its names
    records.py     the gradebook and the ledger as frames, read once

Imports go downwards in this list. Nothing here writes to the gradebook.
"""
