"""What a run says: messages, tables, maps, and the commands that go on from it."""
