"""Servers that tests start on loopback and stop again: PostgreSQL, and an object store that speaks S3."""
