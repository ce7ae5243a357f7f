"""Keep the sleepers nearly current.

In:     stable updates in sequence order.
Out:    batches for passive domains, and the decision when to wake them.
Owns:   the update buffer; when old numbers may be dropped.
Never:  holds an update that is not stable, or one above a number that is not.
Source: SPARE §4.3.2, §4.6.2; design "Passive replicas".
"""
