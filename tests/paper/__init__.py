"""One test per sentence of the papers that the agreement stage relies on."""
