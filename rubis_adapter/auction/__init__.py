"""The auction site: the service that a cell replicates, an ordinary Flask application over SQLAlchemy.

In:     HTTP requests at the servlet addresses of RUBiS, with the agreed context in three headers.
Out:    HTML pages; changes of the database.
Owns:   pages, their validation and wording, templates, style sheet, pictures.
Never:  reads a clock or a random source; lets a database choose an id, an order or a rounding; knows which
        database it runs on.
Source: RUBiS; SPARE §4.10.1.
"""
