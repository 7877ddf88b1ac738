"""The history of the catalog's tables. A migration that was released is never changed."""
