"""The messages of `watchword.v1`, as `query.proto` has them. Made by `make proto`; users need none of it."""
