"""Other documents' names work as those documents say."""
