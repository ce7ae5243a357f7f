"""RUBiS, the eBay-like auction benchmark of the case study, wrapped for a cell.

In:     the original bytes of HTTP requests with their agreed sequence number, time and seed; updates; state parts.
Out:    canonical HTTP replies, row images as updates, state parts.
Owns:   the auction site (`auction/`), its tables (`schema`), the update manager, the adapter, the data sets
        (`population/`) and the emulated users (`client_emulator/`).
Never:  is imported by the replica manager or the agreement stage; reads the wall clock or a random source of its own.
Source: SPARE §4.10; design "RUBiS".
"""
