"""What people see of a class's grades: a terminal, files for other programs, a page.

    terminal.py    a batch and a course's state, on a terminal
    export.py      tables for spreadsheets and scripts
    page.py        the class report: one page of HTML, of templates/
    pseudonyms.py  the class without its names
    contents.py    what the report says, as records
    structure.py   what the tests of a program's structure found
    resources.py   what submissions took, and the outliers
    mistakes.py    the same mistake of many students as one
    pieces.py      tables, and plots with a table beside each
    plots.py       plots as SVG that is a part of the page
    records.py     the gradebook and the ledger as frames, read once

Imports go downwards in this list. Nothing here writes to the gradebook.
"""
