"""The code of The Deep Learning Casebook: landmark papers, explained and re-run.

One module per paper (`casebook.vision.alexnet`), and beside them what all of them share:
`data` (bundled data sets), `text` (vocabularies and padding), `training` (the supervised loop and
the counting of parameters and multiply-adds), `record` (runs too long for a build), `ledger` (what
the papers say next to what was measured) and `plotting` (the house style). Importing the package
has no effect but itself.
"""
