"""The data sets of the auction site: regions, categories, users, auctions, bids, comments, purchases.

In:     a data set's name, a seed, the agreed start time to which all dates are relative.
Out:    rows per table, streamed; a filled database, or files from which one is filled at an image's build.
Owns:   sizes, names, shares, distributions and texts of the data sets (`data_sets`, `vocabulary.toml`).
Never:  reads a clock or a global random source; keeps a table in memory; writes while the service runs.
Source: SPARE §4.11.1; RUBiS's data sets.
"""
