"""Code of image variants that misbehave on purpose.  It runs in guests: Python 3.9, nothing but the standard library.

Never: part of an image without `fault_injection = true`.
"""
