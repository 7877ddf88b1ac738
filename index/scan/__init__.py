"""A second store behind the port: rows in SQLite, vectors in a file, compressed codes that are scanned (faiss)."""
