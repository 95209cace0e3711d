"""Keeps dated archives of the desk, and makes a desk anew from one.

An archive has the database, the streams and buckets, and the files of strategies and rates; no secret. When
one is due and which are thrown away is decided in `keeping`, what of a stream may come back in `cut`.
"""
