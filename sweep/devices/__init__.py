"""The devices that a file may be for: what runs there, what it takes, and how well its answers agree with LiteRT's."""
